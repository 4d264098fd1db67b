//! A comparison for people: the table as text, markdown and HTML, and the plot of quality against cost.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::request::Budget;
use super::table::{Row, Spread, Table};
use crate::plot::{Point, Scatter};
use crate::report::escape;
use crate::runfolder::write_whole;

/// Writes compare.json, compare.md, compare.svg and compare.html.
pub(crate) fn write(table: &Table, folder: &Path) -> Result<()> {
    let svg = scatter(table).svg();
    write_whole(&folder.join("compare.json"), serde_json::to_string_pretty(table)?.as_bytes())?;
    write_whole(&folder.join("compare.md"), markdown(table).as_bytes())?;
    write_whole(&folder.join("compare.svg"), svg.as_bytes())?;
    write_whole(&folder.join("compare.html"), html(table, &svg).as_bytes())
}

const HEAD: [&str; 11] =
    ["", "nDCG@10", "MRR@10", "Recall@100", "difference", "p queries", "p seeds", "dev nDCG@10", "train s", "mine s", "false negatives"];

/// The cells of the table, the head first.
fn cells(table: &Table) -> Vec<Vec<String>> {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(table.rows.iter().map(|row| {
        let quality = |of: fn(&super::table::Quality) -> &Spread| row.quality.as_ref().map(|quality| figure(of(quality), 4));
        let against = row.against_first.as_ref().map(|against| against.ndcg);
        let seconds = |spread: &Option<Spread>| spread.as_ref().map(|spread| format!("{:.1}", spread.mean));
        let cells = [
            if row.failure.is_some() { Some("failed".to_owned()) } else { quality(|it| &it.ndcg) },
            quality(|it| &it.mrr),
            quality(|it| &it.recall),
            against.map(|it| format!("{:+.4}", it.difference)),
            against.map(|it| probability(it.p_randomisation)),
            against.and_then(|it| it.p_seeds).map(probability),
            row.dev.as_ref().map(|dev| figure(dev, 4)),
            seconds(&row.training_seconds),
            seconds(&row.mining_seconds),
            row.false_negative_rate.as_ref().map(|rate| format!("{:.2} %", rate.mean * 100.0)),
        ];
        std::iter::once(row.name.clone()).chain(cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_owned()))).collect()
    }));
    rows
}

/// Mean and standard deviation.
fn figure(spread: &Spread, decimals: usize) -> String {
    match spread.deviation {
        Some(deviation) => format!("{:.decimals$} ± {deviation:.decimals$}", spread.mean),
        None => format!("{:.decimals$}", spread.mean),
    }
}

fn probability(p: f64) -> String {
    if p < 0.0001 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}

/// The conditions, in one line.
fn conditions(table: &Table) -> String {
    let budget = match table.request.budget {
        Some(Budget::Seconds(seconds)) => format!("{seconds} s of training and mining a run"),
        _ => format!("{} steps a run", table.steps),
    };
    let seeds = table.request.seeds;
    let mut line = format!(
        "{} on {} ({} pairs, {} documents), {budget}, {seeds} seed{}, device {}",
        table.model,
        table.collection,
        table.pairs,
        table.documents,
        if seeds == 1 { "" } else { "s" },
        table.devices.join(" and ")
    );
    if !table.request.set.is_empty() {
        let _ = write!(line, ", with {}", table.request.set.join(", "));
    }
    line
}

/// How the figures are to be read, one sentence or two each.
fn notes(table: &Table) -> Vec<String> {
    let mut notes = vec![format!(
        "Figures of {} queries ({}){}.",
        table.queries,
        table.split,
        if table.request.seeds > 1 { format!(": mean ± standard deviation over {} seeds", table.request.seeds) } else { String::new() }
    )];
    if table.rows.iter().any(|row| row.against_first.is_some()) {
        notes.push(format!(
            "difference: nDCG@10 against {}. p queries: paired randomisation test over queries (each query's mean over the seeds), which knows nothing of other \
             seeds; p seeds: paired t test over the seeds' means, which knows nothing of other queries. Two-sided, not corrected for the number of recipes.",
            table.request.recipes[0]
        ));
    }
    notes.push(
        "Seconds are means over the seeds; false negatives are those among what the steps compared, masks of the loss included, where relevance is \
         completely known."
            .into(),
    );
    if table.rows.iter().any(|row| row.dev.is_some()) {
        notes.push("Choose between variants by dev nDCG@10: figures that chose are no longer those of unseen queries.".into());
    }
    if table.devices.len() > 1 {
        notes.push("The runs were made on different devices: their seconds cannot be compared.".into());
    }
    if table.versions.len() > 1 {
        notes.push(format!("The runs were made by different versions of the program: {}.", table.versions.join(", ")));
    }
    notes.extend(table.failures().iter().map(|(name, reason)| format!("{name} failed: {reason}")));
    notes
}

/// The rows for `output::table`, and the lines around them: conditions before, notes after.
pub(crate) fn text_table(table: &Table) -> (String, Vec<Vec<String>>, Vec<String>) {
    (conditions(table), cells(table), notes(table))
}

fn markdown(table: &Table) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut rows = cells(table);
    // An empty heading is no heading for some readers.
    "recipe".clone_into(&mut rows[0][0]);
    let mut text = format!("# Comparison\n\n{}\n\n", conditions(table));
    for (number, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.iter().map(|it| cell(it)).collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let _ = writeln!(text, "|---|{}", "---:|".repeat(row.len() - 1));
        }
    }
    text.push('\n');
    for note in notes(table) {
        let _ = writeln!(text, "- {note}");
    }
    text.push_str("\n![nDCG@10 against seconds](compare.svg)\n");
    text
}

fn html(table: &Table, svg: &str) -> String {
    let mut body = format!("<h1>Comparison</h1>\n<p>{}</p>\n<table>\n", escape(&conditions(table)));
    for (number, row) in cells(table).iter().enumerate() {
        let tag = if number == 0 { "th" } else { "td" };
        let cells: String = row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        let _ = writeln!(body, "<tr>{cells}</tr>");
    }
    let notes: String = notes(table).iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
    let _ = write!(body, "</table>\n<ul>\n{notes}</ul>\n{svg}");
    body.push_str(&runs(table));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Comparison</title>\n<style>:root{{color-scheme:light dark}}\
         body{{font:15px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em}}table{{border-collapse:collapse}}\
         td,th{{padding:.2em .8em;text-align:right;border-bottom:1px solid #8886}}td:first-child{{text-align:left}}svg{{max-width:100%;height:auto}}</style></head>\n\
         <body>\n{body}</body></html>\n"
    )
}

/// Every single run, with the way to its own report.
fn runs(table: &Table) -> String {
    let mut html = String::from(
        "<h2>Runs</h2>\n<table>\n<tr><th>run</th><th>nDCG@10</th><th>MRR@10</th><th>Recall@100</th><th>steps</th><th>train s</th><th>mine s</th></tr>\n",
    );
    for (row, run) in table.rows.iter().flat_map(|row: &Row| row.runs.iter().map(move |run| (row, run))) {
        let folder = Path::new(&run.run).file_name().map_or_else(String::new, |name| escape(&name.to_string_lossy()));
        let name = format!("{}, seed {}", escape(&row.name), run.seed);
        let _ = match (&run.metrics, &run.cost) {
            (Some(metrics), Some(cost)) => writeln!(
                html,
                "<tr><td><a href=\"{folder}/report.html\">{name}</a></td><td>{:.4}</td><td>{:.4}</td><td>{:.4}</td><td>{}</td><td>{:.1}</td><td>{:.1}</td></tr>",
                metrics.ndcg, metrics.mrr, metrics.recall, cost.steps, cost.training, cost.mining
            ),
            _ => writeln!(html, "<tr><td>{name}</td><td colspan=\"6\">failed</td></tr>"),
        };
    }
    html.push_str("</table>\n");
    html
}

fn scatter(table: &Table) -> Scatter {
    let several = table.request.seeds > 1;
    Scatter {
        title: format!("Quality against cost: {} on {}", table.model, table.collection),
        x_title: format!("seconds of training and mining{}", if several { " (mean over seeds)" } else { "" }),
        y_title: format!("nDCG@10, {}{}", table.split, if several { " (mean ± standard deviation)" } else { "" }),
        points: table
            .rows
            .iter()
            .filter_map(|row| {
                let ndcg = &row.quality.as_ref()?.ndcg;
                Some(Point { name: row.name.clone(), x: row.seconds()?, y: ndcg.mean, spread: ndcg.deviation })
            })
            .collect(),
        lines: table
            .rows
            .iter()
            .filter(|row| row.runs.is_empty() && row.seconds().is_none())
            .filter_map(|row| Some((row.name.clone(), row.quality.as_ref()?.ndcg.mean)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::sample;
    use super::*;

    #[test]
    fn cells_say_mean_spread_significance_and_failure() {
        let rows = cells(&sample());
        assert!(rows.iter().all(|row| row.len() == HEAD.len()));
        assert_eq!(rows[1], ["BM25", "0.2000", "0.2000", "0.2000", "–", "–", "–", "–", "–", "–", "–"]);
        assert_eq!(rows[3][1..9], ["0.3750 ± 0.1768", "0.3750 ± 0.1768", "0.3750 ± 0.1768", "–", "–", "–", "0.5000 ± 0.1414", "3.0"]);
        assert_eq!(rows[4][4..], ["+0.1250", "0.0004", "0.0300", "–", "6.0", "2.0", "2.00 %"]);
        assert_eq!(rows[5][1], "failed");
        assert_eq!(probability(0.00009), "<0.0001");
    }

    #[test]
    fn markdown_is_a_table_of_one_width_with_the_reasons_of_failures() {
        let text = markdown(&sample());
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 7);
        assert!(rows.iter().all(|row| row.replace("\\|", "").matches('|').count() == HEAD.len() + 1), "{text}");
        for part in ["builtin:tiny on demo", "20 steps a run", "2 seeds", "against in-batch", "random failed: seed 2: a | b"] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }

    #[test]
    fn the_plot_has_a_point_for_every_whole_recipe_and_a_line_for_each_baseline() {
        let scatter = scatter(&sample());
        let points: Vec<(&str, f64, f64)> = scatter.points.iter().map(|it| (it.name.as_str(), it.x, it.y)).collect();
        assert_eq!(points, [("in-batch", 4.0, 0.375), ("ance", 8.0, 0.55)]);
        assert_eq!(scatter.lines, [("BM25".to_owned(), 0.2), ("untrained".to_owned(), 0.015)]);
        let page = html(&sample(), &scatter.svg());
        assert!(page.contains("<svg") && page.contains("color-scheme:light dark") && page.contains("random failed"));
    }
}
