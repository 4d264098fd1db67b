//! `trainer inspect`: what the negatives of a query were, version by version.

use anyhow::Result;
use serde_json::json;

use crate::args::InspectArgs;
use crate::errors::Usage;
use crate::inspect::{Candidate, Document, History, Inspection, Removed, Version};
use crate::output;

/// Columns of a terminal line.
const WIDTH: usize = 100;

pub(super) fn run(args: &InspectArgs) -> Result<()> {
    if args.queries == 0 {
        return Err(Usage::new("--queries 0: ask for at least one").into());
    }
    let inspection = Inspection::open(&args.run)?;
    let (queries, others) = match &args.query {
        Some(asked) => {
            let (query, others) = inspection.find(asked)?;
            (vec![query], others)
        }
        None => (inspection.most_changed(args.queries)?, 0),
    };
    let histories = inspection.histories(&queries, args.limit)?;
    let (name, complete) = (&inspection.collection.name, inspection.collection.truth.is_some());
    if args.json {
        return output::json(&json!({
            "run": inspection.run, "collection": name, "versions": inspection.versions(), "complete_judgments": complete,
            "others_with_this_text": others, "queries": histories,
        }));
    }
    let versions = inspection.versions();
    output::line(&match versions {
        0 => format!("{}: no lists of negatives; by visit, what each query was trained against, {name}", inspection.run),
        versions => format!("{}: {versions} version{} of the negatives, {name}", inspection.run, plural(versions)),
    });
    for history in &histories {
        for line in lines(history, if versions == 0 { "visit" } else { "version" }) {
            output::line(&line);
        }
    }
    output::line("");
    output::line("columns: rank, score, source, document; + new against the version before");
    if complete {
        output::line("! in fact relevant, though not judged so: a false negative");
    }
    if others > 0 {
        output::line(&format!(
            "{others} other training quer{} this text; name one by its id",
            if others == 1 { "y holds" } else { "ies hold" }
        ));
    }
    Ok(())
}

/// A query as lines of at most [`WIDTH`] columns.
fn lines(history: &History, noun: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(wrapped(&format!("{}  {}", history.id, one_line(&history.text)), 4));
    lines.extend(history.positives.iter().map(|Document { id, text }| cut(format!("  positive  {id}  {}", one_line(text)))));
    for version in &history.versions {
        lines.push(String::new());
        lines.push(heading(version, noun));
        let widths = Widths::of(&version.negatives);
        lines.extend(version.negatives.iter().map(|candidate| cut(line(candidate, &widths))));
        let beyond = version.candidates - version.negatives.len();
        if beyond > 0 {
            lines.push(format!("       and {beyond} more"));
        }
        lines.extend(by_filter(&version.removed).flat_map(|line| wrapped(&line, 4)));
        if version.dropped > 0 {
            let mut names: Vec<String> = version.dropped_negatives.iter().map(dropped).collect();
            let beyond = version.dropped - names.len();
            names.extend((beyond > 0).then(|| format!("and {beyond} more")));
            lines.extend(wrapped(&format!("  dropped: {}", names.join(", ")), 4));
        }
    }
    lines
}

fn heading(version: &Version, noun: &str) -> String {
    let mut line = format!("{noun} {}", version.version);
    if let Some(step) = version.step {
        line.push_str(&format!(", step {step}"));
    }
    line.push_str(&match version.candidates {
        0 => ": no candidates".to_owned(),
        count => format!(": {count} candidate{}", plural(count)),
    });
    if let Some(score) = version.positive_score {
        line.push_str(&format!(", positive at {score:.4}"));
    }
    if let Some(new) = version.new {
        line.push_str(&format!(", {new} new, {} dropped", version.dropped));
    }
    if let Some(count) = version.false_negatives.filter(|&count| count > 0) {
        line.push_str(&format!(", {count} false negative{}", plural(count)));
    }
    line
}

/// Widths of the columns that differ between runs.
struct Widths {
    source: usize,
    id: usize,
    teacher: bool,
}

impl Widths {
    fn of(candidates: &[Candidate]) -> Self {
        let longest = |of: fn(&Candidate) -> &str| candidates.iter().map(|it| of(it).chars().count()).max().unwrap_or(0);
        Self { source: longest(|it| &it.source), id: longest(|it| &it.id), teacher: candidates.iter().any(|it| it.teacher.is_some()) }
    }
}

fn line(candidate: &Candidate, widths: &Widths) -> String {
    let mark = |shown: Option<bool>, mark: char| if shown == Some(true) { mark } else { ' ' };
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    let rank = candidate.rank.map_or_else(|| "–".to_owned(), |rank| rank.to_string());
    let teacher = if widths.teacher { format!("  teacher {:>8}", number(candidate.teacher)) } else { String::new() };
    format!(
        "  {}{} {rank:>5}  {:>8}{teacher}  {:<source$}  {:<id$}  {}",
        mark(candidate.new, '+'),
        mark(candidate.relevant, '!'),
        number(candidate.score),
        candidate.source,
        candidate.id,
        one_line(&candidate.text),
        source = widths.source,
        id = widths.id,
    )
}

fn dropped(candidate: &Candidate) -> String {
    let mark = if candidate.relevant == Some(true) { "!" } else { "" };
    match candidate.rank {
        Some(rank) => format!("{}{mark} (rank {rank})", candidate.id),
        None => format!("{}{mark}", candidate.id),
    }
}

/// One line for each filter with what it took out, in the order of ranks.
fn by_filter(removed: &[Removed]) -> impl Iterator<Item = String> {
    let mut filters: Vec<(&str, Vec<String>)> = Vec::new();
    for Removed { filter, candidate } in removed {
        let score = candidate.score.map_or_else(String::new, |score| format!(", {score:.4}"));
        let mark = if candidate.relevant == Some(true) { "!" } else { "" };
        let name = format!("{}{mark} (rank {}{score})", candidate.id, candidate.rank.unwrap_or(0));
        match filters.iter_mut().find(|it| it.0 == filter) {
            Some((_, names)) => names.push(name),
            None => filters.push((filter, vec![name])),
        }
    }
    filters.into_iter().map(|(filter, names)| format!("  removed by {filter}: {}", names.join(", ")))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The line, cut at the width with an ellipsis.
fn cut(line: String) -> String {
    if line.chars().count() <= WIDTH {
        return line;
    }
    let kept: String = line.chars().take(WIDTH - 1).collect();
    format!("{}…", kept.trim_end())
}

/// The text broken between words, later lines indented. A word longer than a line is cut.
fn wrapped(text: &str, indent: usize) -> Vec<String> {
    let start = text.len() - text.trim_start().len();
    let mut lines = vec![" ".repeat(start)];
    let mut empty = true;
    for word in text.trim_start().split(' ') {
        let last = lines.len() - 1;
        if !empty && lines[last].chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(" ".repeat(indent));
            empty = true;
        }
        if let Some(line) = lines.last_mut() {
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
        }
        empty = false;
    }
    lines.into_iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, rank: u64) -> Candidate {
        Candidate {
            id: id.into(),
            text: "a text\nof several lines ".repeat(9),
            rank: Some(rank),
            score: Some(0.5),
            teacher: None,
            source: "dense".into(),
            new: Some(true),
            relevant: Some(rank == 2),
        }
    }

    #[test]
    fn a_query_is_readable_in_a_hundred_columns() {
        let negatives = vec![candidate("d1", 1), candidate("d22", 2)];
        let history = History {
            id: "q1".into(),
            text: "what is this about ".repeat(12),
            positives: vec![Document { id: "d9".into(), text: "ü".repeat(300) }],
            versions: vec![Version {
                version: 2,
                step: Some(10),
                positive_score: Some(0.75),
                candidates: 5,
                new: Some(2),
                false_negatives: Some(1),
                negatives,
                dropped: 40,
                dropped_negatives: (1..=30).map(|rank| candidate(&format!("d{rank}"), rank)).collect(),
                removed: [("margin", 2), ("score", 3), ("margin", 4)]
                    .map(|(filter, rank)| Removed { filter: filter.into(), candidate: candidate(&format!("d{rank}"), rank) })
                    .into(),
            }],
        };
        let lines = lines(&history, "version");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        for part in [
            "version 2, step 10: 5 candidates, positive at 0.7500, 2 new, 40 dropped, 1 false negative",
            "  +      1    0.5000  dense  d1   a text of several",
            "  +!     2    0.5000  dense  d22  a text of several",
            "       and 3 more",
            "  removed by margin: d2! (rank 2, 0.5000), d4 (rank 4, 0.5000)",
            "  removed by score: d3 (rank 3, 0.5000)",
            "  dropped: d1 (rank 1), d2! (rank 2), d3 (rank 3)",
        ] {
            assert!(lines.iter().any(|line| line.starts_with(part)), "{part:?} is missing in {lines:#?}");
        }
        assert!(lines.last().is_some_and(|line| line.starts_with("    ") && line.ends_with("and 10 more")), "{lines:#?}");
    }

    #[test]
    fn wrapping_loses_no_word() {
        let text = (0..80).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        let lines = wrapped(&format!("  {text}"), 6);
        assert!(lines.len() > 1 && lines[0].starts_with("  0 1") && lines[1].starts_with("      "));
        assert_eq!(lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "), text);
    }
}
