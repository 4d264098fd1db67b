//! What a person sees: tables and JSON on standard output, progress, notes and errors on standard error.
//!
//! The only file that prints. `--json` means one object on standard output and nothing else there.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::errors::chain;
use crate::evaluation::Summary;

/// Library warnings go to standard error; DREDGE_LOG chooses the level (error, warn, info, debug).
pub(crate) fn start_tracing() {
    let level = std::env::var("DREDGE_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::WARN);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        // Of a standard error that takes nothing it would tell standard error, and panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}

/// One line, the whole chain of causes.
pub(crate) fn error(error: &anyhow::Error) {
    note(&format!("trainer: {}", chain(error)));
}

/// A line on standard error about what is going on. Whether anybody reads it is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// One JSON object on standard output.
///
/// # Errors
/// When it cannot be described.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}

/// What standard output did not take, at first.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// A line on standard output.
pub(crate) fn line(text: &str) {
    keep(writeln!(std::io::stdout().lock(), "{text}"));
}

fn keep(written: std::io::Result<()>) {
    match written {
        // A closed pipe (`trainer recipes | head -1`) is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => _ = LOST.set(error),
        _ => {}
    }
}

/// Whether standard output took all that was written to it.
///
/// # Errors
/// When it did not.
pub(crate) fn complete() -> anyhow::Result<()> {
    keep(std::io::stdout().lock().flush());
    match LOST.get() {
        Some(error) => anyhow::bail!("writing to standard output: {error}"),
        None => Ok(()),
    }
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
