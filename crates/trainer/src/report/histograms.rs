//! The part of a report that shows where the encoder puts the documents: histograms of scores at the first and the last refresh of each source that searched with an encoder.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::{HEIGHT, WIDTH, escape, text};

/// Columns of `score_histogram`, what they are called and how they are drawn.
const COLUMNS: [(&str, &str, &str); 3] = [
    ("documents", "all documents but judged ones", "fill=\"#ccc\" stroke=\"none\""),
    ("candidates", "candidates in the lists", "fill=\"none\" stroke=\"#d4691e\" stroke-width=\"1.5\""),
    ("positives", "positives", "fill=\"none\" stroke=\"#1a7f37\" stroke-width=\"1.5\""),
];

/// The first and the last histogram of each source; empty when there are none.
pub(super) fn histograms(refreshes: &[&Value]) -> String {
    let mut by_source: BTreeMap<&str, Vec<(&Value, &Value)>> = BTreeMap::new();
    for line in refreshes {
        for source in line["by_source"].as_array().into_iter().flatten().filter(|source| source["score_histogram"].is_object()) {
            by_source.entry(source["name"].as_str().unwrap_or_default()).or_default().push((&line["step"], &source["score_histogram"]));
        }
    }
    if by_source.is_empty() {
        return String::new();
    }
    let mut html = String::from("<h2>Where the encoder puts the documents</h2>\n");
    for (source, histograms) in by_source {
        let last = histograms.last().filter(|_| histograms.len() > 1);
        for (step, histogram) in histograms.first().into_iter().chain(last) {
            let _ = writeln!(html, "<h3>{}, step {}</h3>\n{}", escape(source), text(step), steps(histogram));
        }
    }
    let legend: Vec<String> = COLUMNS
        .iter()
        .map(|(_, called, style)| {
            format!("<svg width=\"22\" height=\"10\"><rect x=\"1\" y=\"1\" width=\"20\" height=\"8\" {style}/></svg> {called}")
        })
        .collect();
    let _ = writeln!(
        html,
        "<p>{}. To the right, the encoder's score; upwards, documents per query, a line for every power of ten; a quarter of the queries mined, up to 256. Negatives are hard where the candidates reach \
         the positives, and few where the documents thin out before them.</p>",
        legend.join(", ")
    );
    html
}

/// One histogram as steps over the scores, the heights by the logarithm.
fn steps(histogram: &Value) -> String {
    let number = |key: &str| histogram[key].as_f64().unwrap_or(f64::NAN);
    let (low, width, queries) = (number("low"), number("width"), number("queries"));
    let columns = COLUMNS.map(|(key, _, style)| {
        let counts: Vec<f64> = histogram[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        (counts, style)
    });
    let bins = columns.iter().map(|(counts, _)| counts.len()).max().unwrap_or(0);
    let highest = columns.iter().flat_map(|(counts, _)| counts).copied().fold(0.0, f64::max);
    if bins == 0 || !(highest > 0.0 && queries > 0.0) {
        return String::new();
    }
    // From half of one document of one query, so that one is seen, to the fullest bin.
    let (bottom, top) = ((0.5 / queries).log10(), (highest / queries).log10());
    let height = |per_query: f64| HEIGHT * (1.0 - ((per_query.log10() - bottom) / (top - bottom)).clamp(0.0, 1.0));
    let x = |bin: usize| WIDTH * bin as f64 / bins as f64;
    let mut svg = format!("<svg viewBox=\"-60 -10 {} {}\" width=\"{}\">", WIDTH + 80.0, HEIGHT + 40.0, WIDTH + 80.0);
    for (counts, style) in &columns {
        let mut points = format!("0,{HEIGHT}");
        for (bin, &count) in counts.iter().enumerate() {
            let y = if count > 0.0 { height(count / queries) } else { HEIGHT };
            let _ = write!(points, " {:.1},{y:.1} {:.1},{y:.1}", x(bin), x(bin + 1));
        }
        let _ = write!(svg, "<polyline {style} points=\"{points} {WIDTH},{HEIGHT}\"/>");
    }
    for power in bottom.ceil() as i32..=top.floor() as i32 {
        let y = height(10_f64.powi(power));
        let _ = write!(
            svg,
            "<line x1=\"0\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#000\" stroke-opacity=\".15\"/><text x=\"-6\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"end\">{}</text>",
            y + 4.0,
            10_f64.powi(power)
        );
    }
    for part in 0..=4 {
        let score = low + width * bins as f64 * f64::from(part) / 4.0;
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" font-size=\"11\" text-anchor=\"middle\">{score:.3}</text>",
            WIDTH * f64::from(part) / 4.0,
            HEIGHT + 20.0
        );
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refresh(step: usize, documents: &[u64]) -> Value {
        let histogram = json!({ "queries": 10, "low": -0.5, "width": 0.25, "documents": documents, "candidates": [0, 0, 10, 0], "positives": [0, 0, 0, 1] });
        json!({ "step": step, "by_source": [{ "name": "bm25", "score_histogram": null }, { "name": "de<nse", "score_histogram": histogram }] })
    }

    #[test]
    fn the_first_and_the_last_refresh_are_drawn() {
        let lines = [refresh(0, &[5000, 50, 10, 0]), refresh(10, &[1, 2, 3, 4]), refresh(20, &[50, 5000, 10, 0])];
        let html = histograms(&lines.iter().collect::<Vec<_>>());
        assert!(
            html.contains("de&lt;nse, step 0") && html.contains("step 20") && !html.contains("step 10") && !html.contains("bm25"),
            "{html}"
        );
        // 500 documents per query are the top, 5 are three fifths of the way down from there to .05.
        assert!(
            html.contains(
                "points=\"0,200 0.0,0.0 180.0,0.0 180.0,100.0 360.0,100.0 360.0,134.9 540.0,134.9 540.0,200.0 720.0,200.0 720,200\""
            ),
            "{html}"
        );
        for label in [">0.1<", ">100<", ">-0.500<", ">0.500<"] {
            assert!(html.contains(label), "{label}: {html}");
        }
        let one = histograms(&[&lines[0]]);
        assert_eq!(one.matches("<h3>").count(), 1);
    }

    #[test]
    fn without_histograms_there_is_nothing() {
        assert!(histograms(&[&json!({ "step": 0, "by_source": [{ "name": "bm25", "score_histogram": null }] })]).is_empty());
        assert!(steps(&json!({})).is_empty());
    }
}
