//! A comparison for other programs: a line for every run, a line for every query of every run, and the judgments in TREC's form.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use metrics::{Measure, Qrels};

use super::table::Table;
use crate::runfolder::write_whole;

/// Writes runs.csv, queries.csv and qrels.trec.
pub(crate) fn write(table: &Table, qrels: &Qrels, folder: &Path) -> Result<()> {
    write_whole(&folder.join("runs.csv"), runs(table).as_bytes())?;
    write_whole(&folder.join("queries.csv"), queries(table).as_bytes())?;
    write_whole(&folder.join("qrels.trec"), judgments(qrels).as_bytes())
}

fn runs(table: &Table) -> String {
    let mut csv =
        String::from("recipe,seed,split,ndcg@10,mrr@10,recall@100,map@100,dev_ndcg@10,steps,training_seconds,mining_seconds,failure\n");
    for row in &table.rows {
        let dev = |place: usize| row.dev.as_ref().and_then(|dev| dev.values.get(place)).map_or_else(String::new, ToString::to_string);
        for (place, run) in row.runs.iter().enumerate() {
            let metrics = run.metrics.map_or_else(|| ",,,".to_owned(), |it| format!("{},{},{},{}", it.ndcg, it.mrr, it.recall, it.map));
            let cost = run.cost.map_or_else(|| ",,".to_owned(), |it| format!("{},{},{}", it.steps, it.training, it.mining));
            let failure = quoted(run.failure.as_deref().unwrap_or_default());
            let _ = writeln!(csv, "{},{},{},{metrics},{},{cost},{failure}", quoted(&row.name), run.seed, quoted(&table.split), dev(place));
        }
    }
    csv
}

fn queries(table: &Table) -> String {
    let measures = [Measure::Ndcg(Some(10)), Measure::ReciprocalRank(Some(10)), Measure::Recall(100)];
    let mut csv = String::from("recipe,seed,query,ndcg@10,mrr@10,recall@100\n");
    for run in &table.by_query {
        for (query, values) in &run.evaluation.per_query {
            let [ndcg, mrr, recall] = measures.map(|measure| values.value(measure));
            let _ = writeln!(csv, "{},{},{},{ndcg},{mrr},{recall}", quoted(&run.arm), run.seed, quoted(query));
        }
    }
    csv
}

fn judgments(qrels: &Qrels) -> String {
    let mut text = String::new();
    for query in qrels.queries() {
        for (document, grade) in qrels.judged(query) {
            let _ = writeln!(text, "{query} 0 {document} {grade}");
        }
    }
    text
}

/// A field of a CSV file (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::sample;
    use super::*;

    #[test]
    fn a_line_for_every_query_and_every_run() {
        let table = sample();
        assert_eq!(queries(&table), "recipe,seed,query,ndcg@10,mrr@10,recall@100\nin-batch,1,q1,1,1,1\nin-batch,1,q2,0,0,0\n");
        let head = runs(&table);
        assert_eq!(head.lines().next().unwrap().split(',').count(), 12);
        let mut qrels = Qrels::new();
        qrels.insert("q1", "d1", 2);
        assert_eq!(judgments(&qrels), "q1 0 d1 2\n");
        assert_eq!(quoted("hcl: a=\"x\"; b=[1,2]"), "\"hcl: a=\"\"x\"\"; b=[1,2]\"");
    }
}
