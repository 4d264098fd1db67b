//! The figures of one finished run, from what it left behind: metrics.json, run.trec and run.jsonl.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use metrics::{Evaluation, Options, Qrels, Run};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{self, Keep};
use crate::evaluation::{Summary, summarise};
use crate::runlog;

/// What a run started from: the `start` event of its log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Start {
    pub(crate) version: String,
    pub(crate) device: String,
    pub(crate) collection: String,
    pub(crate) collection_fingerprint: String,
    pub(crate) model: String,
    pub(crate) model_fingerprint: String,
    pub(crate) pairs: u64,
    pub(crate) documents: u64,
    pub(crate) steps: u64,
}

impl Start {
    pub(crate) fn read(run: &Path) -> Result<Self> {
        Self::of(&runlog::read(&run.join("run.jsonl"))?).with_context(|| format!("{}/run.jsonl", run.display()))
    }

    fn of(events: &[Value]) -> Result<Self> {
        let event = events.iter().find(|event| event["event"] == "start").context("the log has no start event")?;
        Self::deserialize(event).context("the start event is faulty")
    }
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// Seconds of training: the `training_seconds` of the `end` event or, in a log without them, all seconds but those of refreshes and of
    /// evaluations on the way; the evaluations before and after are then part of them.
    pub(crate) training: f64,
    /// Seconds of all refreshes of the negatives.
    pub(crate) mining: f64,
    /// Steps done.
    pub(crate) steps: u64,
}

impl Cost {
    fn of(events: &[Value]) -> Result<Self> {
        let named = |name: &'static str| events.iter().filter(move |event| event["event"] == name);
        // From 0: the sum of nothing is -0.
        let seconds = |name| named(name).filter_map(|event| event["seconds"].as_f64()).fold(0.0, |sum, seconds| sum + seconds);
        let end = named("end").next_back().context("the log has no end event")?;
        let mining = end["mining_seconds"].as_f64().unwrap_or_else(|| seconds("refresh"));
        let rest = || (end["seconds"].as_f64().unwrap_or(0.0) - mining - seconds("evaluation")).max(0.0);
        Ok(Self { training: end["training_seconds"].as_f64().unwrap_or_else(rest), mining, steps: end["step"].as_u64().unwrap_or(0) })
    }
}

/// Everything that the table needs of a run.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) start: Start,
    pub(crate) bm25: Summary,
    pub(crate) before: Summary,
    pub(crate) after: Summary,
    pub(crate) cost: Cost,
    /// Of what the steps compared, on the average over the run; `None` where relevance is not completely known.
    pub(crate) false_negative_rate: Option<f64>,
    /// nDCG@10 of the weights kept, or of the last ones measured, on the evaluation split.
    pub(crate) dev: Option<f64>,
    /// The run's ranking scored query by query.
    pub(crate) evaluation: Evaluation,
}

/// The part of metrics.json that is read.
#[derive(Deserialize)]
struct Metrics {
    bm25: Summary,
    before: Summary,
    after: Summary,
}

/// How far the two ways to the same figure may lie apart.
const TOLERANCE: f64 = 1e-9;

impl Figures {
    /// Reads a finished run and scores its ranking against `qrels`.
    pub(crate) fn read(run: &Path, qrels: &Qrels) -> Result<Self> {
        let path = run.join("evaluation").join("metrics.json");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let Metrics { bm25, before, after } = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        let trec = Run::read(run.join("evaluation").join("run.trec"))?;
        let evaluation = metrics::evaluate(qrels, &trec, &Options { complete: true, ..Options::default() });
        let again = summarise(&evaluation);
        if (again.ndcg - after.ndcg).abs() > TOLERANCE || again.queries != after.queries {
            bail!(
                "{}: run.trec scores nDCG@10 {:.6} on {} queries, metrics.json says {:.6} on {}; the judgments have changed since the run",
                run.display(),
                again.ndcg,
                again.queries,
                after.ndcg,
                after.queries
            );
        }
        let log = run.join("run.jsonl");
        let events = runlog::read(&log)?;
        let place = || log.display().to_string();
        Ok(Self {
            start: Start::of(&events).with_context(place)?,
            bm25,
            before,
            after,
            cost: Cost::of(&events).with_context(place)?,
            false_negative_rate: false_negative_rate(&events),
            dev: dev(&events, run)?,
            evaluation,
        })
    }
}

/// By what the run's configuration keeps.
fn dev(events: &[Value], run: &Path) -> Result<Option<f64>> {
    // Weights of earlier rounds are not kept.
    let begun = events.iter().rposition(|it| it["event"] == "round").unwrap_or(0);
    let measured: Vec<f64> =
        events[begun..].iter().filter(|it| it["event"] == "evaluation").filter_map(|it| it["ndcg@10"].as_f64()).collect();
    let path = run.join("config.toml");
    let keep = match path.is_file() {
        true => config::merge(&path.display().to_string(), &config::read(&path)?, &[])?.train.keep,
        false => Keep::Best,
    };
    Ok(match keep {
        Keep::Best => measured.into_iter().reduce(f64::max),
        Keep::Last => measured.last().copied(),
    })
}

/// Mean over the steps that were counted, masks of the loss included. A log from before steps were counted has only the rate of its lists: the
/// last refresh's.
fn false_negative_rate(events: &[Value]) -> Option<f64> {
    let of = |name: &'static str| events.iter().filter(move |it| it["event"] == name).filter_map(|it| it["false_negative_rate"].as_f64());
    let (sum, count) = of("step").fold((0.0, 0), |(sum, count), rate| (sum + rate, count + 1));
    if count > 0 { Some(sum / f64::from(count)) } else { of("refresh").next_back() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn costs_are_what_the_log_says_or_what_is_left_of_it() {
        let mut events = vec![
            json!({ "event": "refresh", "step": 0, "seconds": 2.0 }),
            json!({ "event": "evaluation", "step": 5, "seconds": 1.5 }),
            json!({ "event": "refresh", "step": 5, "seconds": 3.0 }),
            json!({ "event": "end", "step": 10, "seconds": 20.0 }),
        ];
        assert_eq!(Cost::of(&events).unwrap(), Cost { training: 13.5, mining: 5.0, steps: 10 });
        events.push(json!({ "event": "end", "step": 10, "seconds": 20.0, "training_seconds": 9.0, "mining_seconds": 4.5 }));
        assert_eq!(Cost::of(&events).unwrap(), Cost { training: 9.0, mining: 4.5, steps: 10 });
        assert!(Cost::of(&events[..3]).is_err());
    }

    #[test]
    fn false_negatives_are_those_of_the_steps_or_else_of_the_last_lists() {
        let mut events = vec![json!({ "event": "step", "step": 0, "loss": 1.0 })];
        assert_eq!(false_negative_rate(&events), None);
        events.extend([0.2, 0.1].map(|rate| json!({ "event": "refresh", "false_negative_rate": rate })));
        assert_eq!(false_negative_rate(&events), Some(0.1));
        events.extend([0.25, 0.75].map(|rate| json!({ "event": "step", "false_negative_rate": rate })));
        assert_eq!(false_negative_rate(&events), Some(0.5));
    }

    #[test]
    fn the_figure_to_choose_by_is_that_of_the_weights_kept() {
        let run = tempfile::tempdir().unwrap();
        let event = |name: &str, ndcg: f64| json!({ "event": name, "ndcg@10": ndcg });
        let mut events = vec![event("start", 0.0)];
        assert_eq!(dev(&events, run.path()).unwrap(), None);
        events.extend([event("evaluation", 0.9), event("round", 0.0), event("evaluation", 0.5), event("evaluation", 0.4)]);
        assert_eq!(dev(&events, run.path()).unwrap(), Some(0.5));
        let config = "[train]\nkeep = \"last\"\n[[negatives.source]]\nfrom = \"in-batch\"\n";
        fs::write(run.path().join("config.toml"), config).unwrap();
        assert_eq!(dev(&events, run.path()).unwrap(), Some(0.4));
    }

    #[test]
    fn a_ranking_that_scores_other_than_the_metrics_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let folder = run.path().join("evaluation");
        fs::create_dir(&folder).unwrap();
        let mut qrels = Qrels::new();
        qrels.insert("q1", "d1", 1);
        fs::write(folder.join("run.trec"), "q1 Q0 d1 1 0.5 t\n").unwrap();
        let log = "{\"event\":\"start\",\"model_fingerprint\":\"f\",\"steps\":3}\n{\"event\":\"end\",\"step\":3,\"seconds\":1.0}\n";
        fs::write(run.path().join("run.jsonl"), log).unwrap();
        let metrics = |ndcg: f64| {
            let summary = json!({ "ndcg@10": ndcg, "mrr@10": 1.0, "recall@100": 1.0, "map@100": 1.0, "queries": 1 });
            fs::write(folder.join("metrics.json"), json!({ "after": summary, "before": summary, "bm25": summary }).to_string()).unwrap();
        };
        metrics(1.0);
        let figures = Figures::read(run.path(), &qrels).unwrap();
        assert_eq!((figures.start.steps, figures.false_negative_rate), (3, None));
        metrics(0.9);
        assert!(Figures::read(run.path(), &qrels).unwrap_err().to_string().contains("the judgments have changed"));
    }
}
