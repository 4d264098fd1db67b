//! Evaluations in the forms people's other tools read: a flat json object, BEIR's json, sentence-transformers' csv.

use serde_json::{Map, Value, json};

use crate::evaluate::Evaluation;
use crate::measure::Measure;

/// Cutoffs of the json forms: BEIR's and 20.
pub const CUTOFFS: [usize; 7] = [1, 3, 5, 10, 20, 100, 1000];

/// Cutoffs of sentence-transformers' accuracy, precision and recall.
const CSV_CUTOFFS: [usize; 4] = [1, 3, 5, 10];

/// A measure that takes a cutoff.
type AtCutoff = fn(usize) -> Measure;

impl Evaluation {
    /// One flat object: `queries`, then nDCG, MRR, recall, MAP, precision and success at [`CUTOFFS`] under names such as `ndcg@10`,
    /// unrounded. Of rankings that were cut at `depth` documents, only the measures that look no further.
    pub fn to_json(&self, depth: Option<usize>) -> Value {
        let mut object = Map::new();
        object.insert("queries".to_owned(), json!(self.queries()));
        for measure in standard(depth) {
            object.insert(measure.to_string(), json!(self.mean(measure)));
        }
        Value::Object(object)
    }
}

/// The measures of [`Evaluation::to_json`].
pub fn standard(depth: Option<usize>) -> impl Iterator<Item = Measure> {
    let families: [AtCutoff; 6] = [
        |k| Measure::Ndcg(Some(k)),
        |k| Measure::ReciprocalRank(Some(k)),
        Measure::Recall,
        |k| Measure::Map(Some(k)),
        Measure::Precision,
        Measure::Success,
    ];
    families.into_iter().flat_map(move |family| within(CUTOFFS, depth).map(family))
}

fn within<const N: usize>(cutoffs: [usize; N], depth: Option<usize>) -> impl Iterator<Item = usize> {
    cutoffs.into_iter().filter(move |&cutoff| depth.is_none_or(|depth| cutoff <= depth))
}

/// BEIR's results json: `{"ndcg": {"NDCG@1": …}, "map": …, "recall": …, "precision": …, "mrr": …}`, five decimals.
/// `depth` as in [`Evaluation::to_json`].
pub fn beir_json(evaluation: &Evaluation, depth: Option<usize>) -> Value {
    let families: [(&str, &str, AtCutoff); 5] = [
        ("ndcg", "NDCG", |k| Measure::Ndcg(Some(k))),
        ("map", "MAP", |k| Measure::Map(Some(k))),
        ("recall", "Recall", Measure::Recall),
        ("precision", "P", Measure::Precision),
        ("mrr", "MRR", |k| Measure::ReciprocalRank(Some(k))),
    ];
    let object = families.into_iter().map(|(group, name, family)| {
        let values = within([1, 3, 5, 10, 100, 1000], depth).map(|k| {
            let value = evaluation.mean(family(k));
            (format!("{name}@{k}"), json!((value * 1e5).round() / 1e5))
        });
        (group.to_owned(), Value::Object(values.collect()))
    });
    Value::Object(object.collect())
}

/// Header line of sentence-transformers' `Information-Retrieval_evaluation_<name>_results.csv`. `similarity` is `cosine` or `dot`.
pub fn csv_header(similarity: &str) -> String {
    let columns = csv_columns().map(|(name, _)| format!("{similarity}-{name}"));
    ["epoch".to_owned(), "steps".to_owned()].into_iter().chain(columns).collect::<Vec<_>>().join(",")
}

/// The row that belongs under [`csv_header`]; epoch and step are -1 outside of training. The figures follow sentence-transformers, not trec_eval: binary gains, and MAP over
/// min(k, relevant documents). Ties are broken by document id descending, there ascending.
pub fn csv_row(evaluation: &Evaluation, epoch: f64, step: i64) -> String {
    let values = csv_columns().map(|(_, measure)| evaluation.mean(measure).to_string());
    [epoch.to_string(), step.to_string()].into_iter().chain(values).collect::<Vec<_>>().join(",")
}

fn csv_columns() -> impl Iterator<Item = (String, Measure)> {
    let accuracy = CSV_CUTOFFS.into_iter().map(|k| (format!("Accuracy@{k}"), Measure::Success(k)));
    let pairs = CSV_CUTOFFS
        .into_iter()
        .flat_map(|k| [(format!("Precision@{k}"), Measure::Precision(k)), (format!("Recall@{k}"), Measure::Recall(k))]);
    let rest = [
        ("MRR@10".to_owned(), Measure::ReciprocalRank(Some(10))),
        ("NDCG@10".to_owned(), Measure::BinaryNdcg(10)),
        ("MAP@100".to_owned(), Measure::CappedMap(100)),
    ];
    accuracy.chain(pairs).chain(rest)
}
