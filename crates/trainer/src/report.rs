//! report.html: a run at a glance, one file without scripts or outside resources.
//!
//! Made from run.jsonl and config.toml alone, so it can be written at any time, for any run.

mod histograms;
mod prepared;
mod steps;

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::runfolder::{RunFolder, write_whole};
use crate::runlog;

/// Plot size in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;

/// Writes the report of a run.
pub(crate) fn write(run: &RunFolder) -> Result<()> {
    let events = runlog::read(&run.log())?;
    let config = std::fs::read_to_string(run.config()).with_context(|| format!("reading {}", run.config().display()))?;
    write_whole(&run.report(), page(&run.path().display().to_string(), &events, &config).as_bytes())
}

fn page(name: &str, events: &[Value], config: &str) -> String {
    let of = |event: &str| events.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    let series = |event: &str, field: &str| -> Vec<(f64, f64)> {
        of(event).iter().filter_map(|line| Some((line["step"].as_f64()?, line[field].as_f64()?))).collect()
    };
    let mut body = format!("<h1>{}</h1>\n", escape(name));
    if let Some(start) = of("start").first() {
        let _ = writeln!(
            body,
            "<p>{} on {}, {} training pairs, {} documents, {} steps, device {}</p>",
            text(&start["model"]),
            text(&start["collection"]),
            text(&start["pairs"]),
            text(&start["documents"]),
            text(&start["steps"]),
            text(&start["device"])
        );
    }
    body.push_str(
        "<h2>Retrieval quality</h2>\n<table><tr><th></th><th>nDCG@10</th><th>MRR@10</th><th>Recall@100</th><th>MAP@100</th></tr>\n",
    );
    for (event, label) in [("bm25", "BM25"), ("before", "before training"), ("after", "after training")] {
        if let Some(line) = of(event).last() {
            let _ = write!(body, "<tr><td>{label}</td>");
            for metric in ["ndcg@10", "mrr@10", "recall@100", "map@100"] {
                let _ = write!(body, "<td>{:.4}</td>", line[metric].as_f64().unwrap_or(f64::NAN));
            }
            body.push_str("</tr>\n");
        }
    }
    body.push_str("</table>\n");
    body.push_str(&prepared::prepared(events));
    body.push_str(&plot("nDCG@10 on the evaluation split", &series("evaluation", "ndcg@10")));
    body.push_str(&plot("Loss", &series("step", "loss")));
    body.push_str(&plot("Gradient norm before clipping", &series("step", "gradient_norm")));
    body.push_str(&refreshes(&of("refresh")));
    body.push_str(&sources(&of("refresh")));
    body.push_str(&histograms::histograms(&of("refresh")));
    body.push_str(&steps::compared(&of("step")));
    let spared: Vec<f64> = series("step", "spared_share").iter().map(|point| point.1).collect();
    body.push_str(&generated(&of("refresh"), &of("shortcut"), &spared));
    let _ = write!(body, "<h2>Configuration</h2>\n<pre>{}</pre>\n", escape(config));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\n<style>body{{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}}\
         table{{border-collapse:collapse}}td,th{{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}}td:first-child{{text-align:left}}\
         pre{{background:#f6f6f6;padding:1em;overflow:auto}}svg{{background:#fafafa}}</style></head>\n<body>\n{body}</body></html>\n",
        escape(name)
    )
}

fn refreshes(lines: &[&Value]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<h2>Refreshes of the negatives</h2>\n<table><tr><th>version</th><th>step</th><th>seconds</th><th>turnover</th><th>short rows</th>\
         <th>negative p50</th><th>positive p50</th><th>false negatives</th></tr>\n",
    );
    for line in lines {
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(&line["version"]),
            text(&line["step"]),
            number(&line["seconds"]),
            share(&line["turnover"]),
            text(&line["short_rows"]),
            number(&line["negative_scores"]["p50"]),
            number(&line["positive_scores"]["p50"]),
            share(&line["false_negative_rate"])
        );
    }
    html.push_str("</table>\n");
    html
}

fn share(value: &Value) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |value| format!("{:.1} %", value * 100.0))
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// What each refresh did to each source: what filters took, how far the candidates lie below the positive, at which ranks, how old.
fn sources(refreshes: &[&Value]) -> String {
    let rows: Vec<String> = refreshes
        .iter()
        .flat_map(|line| line["by_source"].as_array().into_iter().flatten().map(move |source| (&line["step"], source)))
        .map(|(step, source)| {
            let removed: Vec<String> = source["removed_shares"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(filter, value)| format!("{} {}", escape(filter), share(value)))
                .collect();
            let quantiles =
                ["p5", "p25", "p50", "p75", "p95"].map(|name| format!("<td>{}</td>", number(&source["score_differences"][name])));
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>{}<td>{}</td><td>{}</td><td>{}</td></tr>\n",
                text(step),
                text(&source["name"]),
                text(&source["candidates"]),
                share(&source["turnover"]),
                if removed.is_empty() { "–".to_owned() } else { removed.join(", ") },
                quantiles.concat(),
                ranks(&source["ranks"]),
                text(&source["row_age_steps"]),
                share(&source["false_negative_rate"])
            )
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<h2>Sources at each refresh</h2>\n<table><tr><th>step</th><th>source</th><th>candidates</th><th>turnover</th><th>removed by</th>\
         <th>below the positive: 5 %</th><th>25 %</th><th>50 %</th><th>75 %</th><th>95 %</th><th>ranks</th><th>age in steps</th>\
         <th>false negatives</th></tr>\n{}</table>\n<p>Below the positive: the lowest score among the query's positives less the candidate's. Ranks: the \
         share of the candidates kept at ranks 1, 2 to 3, 4 to 7 and so on. Age: steps since the oldest document row that was searched was \
         encoded.</p>\n",
        rows.concat()
    )
}

/// A histogram by powers of two in a few words.
fn ranks(counts: &Value) -> String {
    let counts: Vec<f64> = counts.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let all: f64 = counts.iter().sum();
    let bin = |(power, count): (u32, &f64)| {
        let (first, last) = (1_u64 << power, (1_u64 << (power + 1)) - 1);
        let name = if first == last { first.to_string() } else { format!("{first}–{last}") };
        (*count > 0.0).then(|| format!("{name}: {:.0} %", 100.0 * count / all))
    };
    let bins: Vec<String> = (0..).zip(&counts).filter_map(bin).collect();
    if bins.is_empty() { "–".to_owned() } else { bins.join(", ") }
}

/// What is known about generated negatives: whether they can be told from documents, and what filters and masks would have done to them.
fn generated(refreshes: &[&Value], checks: &[&Value], spared_shares: &[f64]) -> String {
    let mut html = String::new();
    if !checks.is_empty() {
        html.push_str(
            "<h2>Generated negatives: shortcut check</h2>\n<table><tr><th>step</th><th>accuracy</th><th>AUC</th><th>texts held out</th>\
             <th>against</th></tr>\n",
        );
        for line in checks {
            let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td>{:.3}</td><td>{:.3}</td><td>{}</td><td>{} documents</td></tr>",
                text(&line["step"]),
                number(&line["accuracy"]),
                number(&line["auc"]),
                text(&line["held_out"]),
                text(&line["against"])
            );
        }
        html.push_str(
            "</table>\n<p>How well a linear probe tells generated texts from documents by their embeddings alone: 0.5 means that they cannot be told \
             apart; near 1, the encoder can lower its loss by learning &quot;machine-written = negative&quot;, which says nothing about relevance.</p>\n",
        );
    }
    let sources =
        refreshes.iter().flat_map(|line| line["by_source"].as_array().into_iter().flatten().map(|source| (&line["step"], source)));
    let counts =
        sources.flat_map(|(step, source)| source["spared"].as_object().into_iter().flatten().map(move |count| (step, source, count)));
    let rows: Vec<String> = counts
        .map(|(step, source, (filter, count))| {
            let share = 100.0 * count.as_f64().unwrap_or(f64::NAN) / source["found"].as_f64().unwrap_or(f64::NAN).max(1.0);
            let (step, count, found) = (text(step), text(count), text(&source["found"]));
            format!("<tr><td>{step}</td><td>{}</td><td>{count}</td><td>{found}</td><td>{share:.1} %</td></tr>\n", escape(filter))
        })
        .collect();
    if !rows.is_empty() {
        let _ = writeln!(
            html,
            "<h2>Generated negatives: exemptions</h2>\n<p>Generated texts are exempt from filters and masks by score; what these would have dropped:</p>\n\
             <table><tr><th>step</th><th>filter</th><th>would have dropped</th><th>of</th><th>share</th></tr>\n{}</table>",
            rows.concat()
        );
    }
    if !spared_shares.is_empty() {
        let mean = spared_shares.iter().sum::<f64>() / spared_shares.len() as f64;
        let _ = writeln!(
            html,
            "<p>Masks of the loss would have taken out {:.1} % of the generated negatives of a step, on the average.</p>",
            100.0 * mean
        );
    }
    html
}

/// A line plot. At most one point per pixel column is drawn: the mean of those that fall into it.
fn plot(title: &str, points: &[(f64, f64)]) -> String {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(|point| point.1.is_finite()).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let low = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let (span_x, span_y) = ((last.0 - first.0).max(1.0), (high - low).max(1e-9));
    let mut columns: Vec<(f64, f64, usize)> = Vec::new();
    for (x, y) in &points {
        let x = ((x - first.0) / span_x * WIDTH).round();
        match columns.last_mut() {
            Some(column) if column.0 == x => {
                column.1 += y;
                column.2 += 1;
            }
            _ => columns.push((x, *y, 1)),
        }
    }
    let line: Vec<String> =
        columns.iter().map(|(x, y, n)| format!("{x:.0},{:.1}", HEIGHT - (y / *n as f64 - low) / span_y * HEIGHT)).collect();
    format!(
        "<h2>{}</h2>\n<svg viewBox=\"-60 -10 {} {}\" width=\"{}\"><polyline fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"1.5\" points=\"{}\"/>\
         <text x=\"-6\" y=\"8\" font-size=\"11\" text-anchor=\"end\">{high:.4}</text><text x=\"-6\" y=\"{HEIGHT}\" font-size=\"11\" text-anchor=\"end\">{low:.4}</text>\
         <text x=\"0\" y=\"{}\" font-size=\"11\">step {}</text><text x=\"{WIDTH}\" y=\"{}\" font-size=\"11\" text-anchor=\"end\">step {}</text></svg>\n",
        escape(title),
        WIDTH + 80.0,
        HEIGHT + 40.0,
        WIDTH + 80.0,
        line.join(" "),
        HEIGHT + 20.0,
        first.0,
        HEIGHT + 20.0,
        last.0
    )
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => escape(text),
        Value::Null => "–".to_owned(),
        other => escape(&other.to_string()),
    }
}

/// Text for HTML and SVG, inside and outside of attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_points_plotted() {
        let events = [
            serde_json::json!({ "event": "start", "step": 0, "model": "<script>", "collection": "demo" }),
            serde_json::json!({ "event": "step", "step": 0, "loss": 2.0 }),
            serde_json::json!({ "event": "step", "step": 10, "loss": 1.0 }),
        ];
        let html = page("run", &events, "a = \"<b>\"");
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"));
        assert!(html.contains("points=\"0,0.0 720,200.0\""), "{html}");
    }

    #[test]
    fn generated_negatives_have_a_section_where_there_are_any() {
        let refresh =
            |spared: Value| serde_json::json!({ "event": "refresh", "step": 3, "by_source": [{ "found": 40, "spared": spared }] });
        let plain = page("run", &[refresh(serde_json::json!({}))], "");
        assert!(!plain.contains("Generated negatives") && !plain.contains("Masks of the loss"));
        let events = [
            refresh(serde_json::json!({ "margin": 10, "sc<re": 0 })),
            serde_json::json!({ "event": "shortcut", "step": 3, "accuracy": 0.75, "auc": 0.8125, "held_out": 36, "against": "retrieved" }),
            serde_json::json!({ "event": "step", "step": 3, "loss": 1.0, "spared_share": 0.25 }),
            serde_json::json!({ "event": "step", "step": 4, "loss": 1.0, "spared_share": 0.5 }),
        ];
        let html = page("run", &events, "");
        for part in [
            "<tr><td>3</td><td>0.750</td><td>0.812</td><td>36</td><td>retrieved documents</td></tr>",
            "<tr><td>3</td><td>margin</td><td>10</td><td>40</td><td>25.0 %</td></tr>",
            "<tr><td>3</td><td>sc&lt;re</td><td>0</td><td>40</td><td>0.0 %</td></tr>",
            "taken out 37.5 %",
            "machine-written = negative",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
    }

    #[test]
    fn sources_and_what_was_compared_are_told_in_tables() {
        let source = serde_json::json!({
            "name": "dense", "candidates": 100, "turnover": 0.5, "removed_shares": { "margin": 0.125, "sc<re": 0.0 },
            "score_differences": { "p5": 0.1, "p25": 0.2, "p50": 0.3, "p75": 0.4, "p95": 0.5 }, "ranks": [1, 0, 3], "row_age_steps": 7,
            "false_negative_rate": 0.01,
        });
        let events = [
            serde_json::json!({ "event": "refresh", "step": 20, "by_source": [source] }),
            serde_json::json!({ "event": "step", "step": 0, "compared": { "dense": { "open": 20, "known": 20, "false": 1 } } }),
            serde_json::json!({ "event": "step", "step": 11 }),
        ];
        let html = page("run", &events, "");
        for part in [
            "<tr><td>20</td><td>dense</td><td>100</td><td>50.0 %</td><td>margin 12.5 %, sc&lt;re 0.0 %</td>",
            "<td>0.100</td><td>0.200</td><td>0.300</td><td>0.400</td><td>0.500</td><td>1: 25 %, 4–7: 75 %</td><td>7</td><td>1.0 %</td></tr>",
            "<tr><td>dense</td><td>20</td><td>100.0 %</td>",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        let plain = page("run", &events[2..], "");
        assert!(!plain.contains("Sources at each") && !plain.contains("What the steps compared"));
    }

    #[test]
    fn a_run_without_a_finite_loss_still_has_a_report() {
        assert!(page("run", &[serde_json::json!({ "event": "step", "step": 0, "loss": null })], "").contains("<h1>run</h1>"));
    }
}
