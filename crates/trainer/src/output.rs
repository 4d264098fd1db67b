//! What a person sees: tables and JSON on standard output, progress, notes and errors on standard error.
//!
//! The only file that prints. `--json` means one object on standard output and nothing else there.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::evaluation::Summary;

/// Library warnings go to standard error; DREDGE_LOG chooses the level (error, warn, info, debug).
pub(crate) fn start_tracing() {
    let level = std::env::var("DREDGE_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::WARN);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}

/// One line, the whole chain of causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("trainer: {}", format!("{error:#}").replace('\n', "; "));
}

/// A line on standard error about what is going on.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// One JSON object on standard output.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// A line on standard output.
pub(crate) fn line(text: &str) {
    // A closed pipe (`trainer recipes | head -1`) is no failure.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Rows of cells, columns aligned, the first to the left and the others to the right.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let width = widths[c];
            if c == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// The table of metrics under names.
pub(crate) fn metrics_table(rows: &[(&str, Summary)]) {
    let mut cells = vec![["", "nDCG@10", "MRR@10", "Recall@100", "MAP@100"].map(str::to_owned).to_vec()];
    for (name, summary) in rows {
        let mut row = vec![(*name).to_owned()];
        row.extend([summary.ndcg, summary.mrr, summary.recall, summary.map].map(|value| format!("{value:.4}")));
        cells.push(row);
    }
    table(&cells);
}

/// A progress bar with throughput and time left; silent when standard error is no terminal.
pub(crate) fn progress(length: usize, unit: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length as u64), target);
    let template = format!("{{msg:24!}} {{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
