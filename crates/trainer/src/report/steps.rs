//! The part of a report that says what the steps compared, from the counts of run.jsonl.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::{escape, number, plot, ranks, share};

/// One source, over all steps that were counted.
#[derive(Default)]
struct Source {
    open: u64,
    known: u64,
    wrong: u64,
    ranks: Vec<u64>,
    /// Sums over the steps that measured it, the five quantiles and the share that scores above the positive.
    hardness: [f64; 6],
    measured: usize,
    /// Steps since the newest and the oldest row were encoded, the extremes over the steps.
    age: Option<(u64, u64)>,
    /// By step the median of the positive's score less the negative's.
    medians: Vec<(f64, f64)>,
}

impl Source {
    fn add(&mut self, step: f64, line: &Value) {
        let count = |key: &str| line[key].as_u64().unwrap_or(0);
        (self.open, self.known, self.wrong) = (self.open + count("open"), self.known + count("known"), self.wrong + count("false"));
        for (bin, more) in line["ranks"].as_array().into_iter().flatten().enumerate() {
            self.ranks.resize(self.ranks.len().max(bin + 1), 0);
            self.ranks[bin] += more.as_u64().unwrap_or(0);
        }
        let below = &line["below_positive"];
        if let Some(median) = below["p50"].as_f64() {
            let parts = ["p5", "p25", "p50", "p75", "p95"].map(|key| &below[key]).into_iter().chain([&line["harder_share"]]);
            self.hardness.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part.as_f64().unwrap_or(f64::NAN));
            self.measured += 1;
            self.medians.push((step, median));
        }
        if let (Some(newest), Some(oldest)) = (line["age_steps"][0].as_u64(), line["age_steps"][1].as_u64()) {
            let (least, most) = self.age.unwrap_or((newest, oldest));
            self.age = Some((least.min(newest), most.max(oldest)));
        }
    }

    fn row(&self, name: &str, all: u64) -> String {
        let mean = |sum: f64| if self.measured > 0 { Value::from(sum / self.measured as f64) } else { Value::Null };
        let wrong = if self.known > 0 { format!("{:.2} %", 100.0 * self.wrong as f64 / self.known as f64) } else { "–".to_owned() };
        let age = self.age.map_or_else(|| "–".to_owned(), |(newest, oldest)| format!("{newest} to {oldest}"));
        let quantiles: String = self.hardness[..5].iter().map(|&sum| format!("<td>{}</td>", number(&mean(sum)))).collect();
        format!(
            "<tr><td>{}</td><td>{}</td><td>{:.1} %</td>{quantiles}<td>{}</td><td>{}</td><td>{age}</td><td>{wrong}</td></tr>\n",
            escape(name),
            self.open,
            100.0 * self.open as f64 / all as f64,
            share(&mean(self.hardness[5])),
            ranks(&self.ranks.clone().into()),
        )
    }
}

/// What the queries were compared with.
pub(super) fn compared(steps: &[&Value]) -> String {
    let mut by_source: BTreeMap<&str, Source> = BTreeMap::new();
    for step in steps {
        for (source, line) in step["compared"].as_object().into_iter().flatten() {
            by_source.entry(source).or_default().add(step["step"].as_f64().unwrap_or(f64::NAN), line);
        }
    }
    if by_source.is_empty() {
        return String::new();
    }
    let all: u64 = by_source.values().map(|source| source.open).sum();
    let rows: String = by_source.iter().map(|(name, source)| source.row(name, all)).collect();
    let mut html = format!(
        "<h2>What the steps compared</h2>\n<table><tr><th>source</th><th>negatives</th><th>share</th><th>below the positive: 5 %</th><th>25 %</th>\
         <th>50 %</th><th>75 %</th><th>95 %</th><th>above it</th><th>ranks</th><th>age in steps</th><th>false negatives</th></tr>\n{rows}</table>\n\
         <p>Cells of the score matrix that were open, a query against a document, over the steps that were counted; before the masks of the loss. Below the \
         positive: its score less the negative's, at the step, means over the steps. Ranks: where a search found them.</p>\n"
    );
    let masked: Vec<f64> = steps.iter().filter_map(|step| step["masked_share"].as_f64()).collect();
    if !masked.is_empty() {
        let mean = masked.iter().sum::<f64>() / masked.len() as f64;
        let _ = writeln!(html, "<p>Masks took out {:.1} % of them, on the average.</p>", 100.0 * mean);
    }
    for (name, source) in &by_source {
        html.push_str(&plot(&format!("Median below the positive, {name}"), &source.medians));
    }
    html
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_compared_is_summed_over_the_steps() {
        let below = |p50: f64| json!({ "p5": -0.5, "p25": 0.0, "p50": p50, "p75": 0.5, "p95": 1.0 });
        let dense = |open, p50, ranks: Value| json!({ "open": open, "known": open, "false": 1, "below_positive": below(p50), "harder_share": 0.25, "ranks": ranks });
        let steps = [
            json!({ "step": 0, "masked_share": 0.25, "compared": { "dense": dense(20, 0.25, json!([1])), "queue": { "open": 10, "age_steps": [1, 1] } } }),
            json!({ "step": 10, "masked_share": 0.75, "compared": { "dense": dense(60, 0.5, json!([0, 3])), "queue": { "open": 10, "age_steps": [1, 11] } } }),
            json!({ "step": 11 }),
        ];
        let html = compared(&steps.iter().collect::<Vec<_>>());
        for part in [
            "<tr><td>dense</td><td>80</td><td>80.0 %</td><td>-0.500</td><td>0.000</td><td>0.375</td><td>0.500</td><td>1.000</td><td>25.0 %</td>\
             <td>1: 25 %, 2–3: 75 %</td><td>–</td><td>2.50 %</td></tr>",
            "<tr><td>queue</td><td>20</td><td>20.0 %</td><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td><td>1 to 11</td><td>–</td></tr>",
            "Masks took out 50.0 %",
            "<h2>Median below the positive, dense</h2>",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        assert!(!html.contains("positive, queue") && compared(&[&steps[2]]).is_empty());
    }
}
