//! The runs of a comparison side by side: means and spreads over seeds, significance over queries, costs.
//!
//! This is the content of compare.json. Spread is the standard deviation over seeds (of the sample, divisor n - 1); smallest and largest
//! value and every single one are there too. Significance is that of the metrics crate, over queries, on each query's mean over the
//! seeds; it is not corrected for the number of recipes.

use std::path::Path;

use anyhow::{Result, bail};
use metrics::significance::{self, Sampling};
use metrics::{Evaluation, Measure, Qrels};
use serde::Serialize;

use super::figures::{Cost, Figures, Start};
use super::request::Request;
use super::runs::Attempt;
use crate::evaluation::Summary;

/// Values of one figure, one for each seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    /// Standard deviation of the sample; `None` for one seed.
    pub(crate) deviation: Option<f64>,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) values: Vec<f64>,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: Vec<f64>) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (!values.is_empty()).then(|| Self {
            mean,
            deviation: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            values,
        })
    }
}

/// The figures of retrieval quality that the table shows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Quality {
    #[serde(rename = "ndcg@10")]
    pub(crate) ndcg: Spread,
    #[serde(rename = "mrr@10")]
    pub(crate) mrr: Spread,
    #[serde(rename = "recall@100")]
    pub(crate) recall: Spread,
}

impl Quality {
    fn of(summaries: &[Summary]) -> Option<Self> {
        let over = |figure: fn(&Summary) -> f64| Spread::of(summaries.iter().map(figure).collect());
        Some(Self { ndcg: over(|it| it.ndcg)?, mrr: over(|it| it.mrr)?, recall: over(|it| it.recall)? })
    }
}

/// One measure of a recipe against the first recipe, over queries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Significance {
    /// This recipe less the first one.
    pub(crate) difference: f64,
    /// 95 % bootstrap interval of the difference.
    pub(crate) interval: (f64, f64),
    /// Two-sided p of the paired randomisation test.
    pub(crate) p_randomisation: f64,
    /// Two-sided p of the paired t test.
    pub(crate) p_t: f64,
    /// Two-sided p of the t test over the seeds, whose means are paired: what queries cannot tell, how much another seed changes. `None` for one seed.
    pub(crate) p_seeds: Option<f64>,
    pub(crate) queries: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Against {
    #[serde(rename = "ndcg@10")]
    pub(crate) ndcg: Significance,
    #[serde(rename = "mrr@10")]
    pub(crate) mrr: Significance,
    #[serde(rename = "recall@100")]
    pub(crate) recall: Significance,
}

/// One run in the row of its recipe.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Single {
    pub(crate) seed: u64,
    pub(crate) run: String,
    pub(crate) metrics: Option<Summary>,
    pub(crate) cost: Option<Cost>,
    pub(crate) failure: Option<String>,
}

/// One row: a recipe, or something measured by all runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// `None` when a run failed: means over fewer seeds would not be equal conditions.
    pub(crate) quality: Option<Quality>,
    /// Against the first recipe; `None` in its own row and in rows that are no recipe.
    pub(crate) against_first: Option<Against>,
    pub(crate) training_seconds: Option<Spread>,
    pub(crate) mining_seconds: Option<Spread>,
    /// Of what each run's steps compared, where it is known.
    pub(crate) false_negative_rate: Option<Spread>,
    /// nDCG@10 on the evaluation split, where that was measured: what to choose by, so that the figures of the split above stay those of unseen queries.
    #[serde(rename = "dev_ndcg@10")]
    pub(crate) dev: Option<Spread>,
    pub(crate) failure: Option<String>,
    pub(crate) runs: Vec<Single>,
}

impl Row {
    /// Seconds of training and mining, mean over seeds.
    pub(crate) fn seconds(&self) -> Option<f64> {
        Some(self.training_seconds.as_ref()?.mean + self.mining_seconds.as_ref()?.mean)
    }
}

/// Start weights of one seed, the same for all recipes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Seed {
    pub(crate) seed: u64,
    pub(crate) model_fingerprint: String,
}

/// The comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) folder: String,
    pub(crate) request: Request,
    pub(crate) collection: String,
    pub(crate) collection_fingerprint: String,
    pub(crate) model: String,
    pub(crate) documents: u64,
    pub(crate) pairs: u64,
    /// The split that the figures are of, and its queries.
    pub(crate) split: String,
    pub(crate) queries: usize,
    /// Steps of every run; under a budget of seconds, what the first one was to do at most.
    pub(crate) steps: u64,
    /// Devices and versions that the runs ran on: costs compare only where there is one of each.
    pub(crate) devices: Vec<String>,
    pub(crate) versions: Vec<String>,
    pub(crate) starts: Vec<Seed>,
    /// BM25, the untrained encoder, then the recipes as asked for.
    pub(crate) rows: Vec<Row>,
    /// Every finished run's values query by query; in files of their own.
    #[serde(skip)]
    pub(crate) by_query: Vec<ByQuery>,
}

/// What all runs are measured on.
pub(crate) struct Measured {
    pub(crate) split: String,
    /// Its judgments.
    pub(crate) qrels: Qrels,
    /// Weights are chosen on another split; where they are not, nothing is left to choose variants by.
    pub(crate) chosen_apart: bool,
}

/// One run's values query by query.
#[derive(Clone, Debug)]
pub(crate) struct ByQuery {
    pub(crate) arm: String,
    pub(crate) seed: u64,
    pub(crate) evaluation: Evaluation,
}

impl Table {
    /// Reads every finished run in `folder` and scores it.
    ///
    /// # Errors
    /// When no run is finished, or a run's files do not fit the judgments.
    pub(crate) fn read(request: &Request, folder: &Path, attempts: &[Attempt], measured: &Measured) -> Result<Self> {
        let read = |attempt: &Attempt| -> Result<Option<Figures>> {
            attempt.failure.is_none().then(|| Figures::read(&attempt.folder, &measured.qrels)).transpose()
        };
        let runs: Vec<(&Attempt, Option<Figures>)> = attempts.iter().map(|attempt| Ok((attempt, read(attempt)?))).collect::<Result<_>>()?;
        let finished: Vec<(&Attempt, &Figures)> =
            runs.iter().filter_map(|(attempt, figures)| Some((*attempt, figures.as_ref()?))).collect();
        let Some((_, first)) = finished.first() else {
            bail!("no run finished; {}", attempts.iter().find_map(|it| it.failure.as_deref()).unwrap_or("there was none to do"));
        };
        // Every recipe of a seed starts alike, so any of its runs speaks for the start.
        let per_seed: Vec<(u64, &Figures)> = (1..=request.seeds)
            .filter_map(|seed| finished.iter().find(|(attempt, _)| attempt.seed == seed).map(|(_, figures)| (seed, *figures)))
            .collect();
        let before: Vec<Summary> = per_seed.iter().map(|(_, figures)| figures.before).collect();
        let mut rows = vec![baseline("BM25", &[first.bm25]), baseline("untrained", &before)];
        let complete = |number: usize| -> Option<Vec<&Figures>> {
            let figures: Vec<_> = finished.iter().filter(|(attempt, _)| attempt.arm == number).map(|(_, figures)| *figures).collect();
            (figures.len() as u64 == request.seeds).then_some(figures)
        };
        let reference = complete(0);
        let arms = request.arms()?;
        for (number, arm) in arms.iter().enumerate() {
            let own: Vec<_> = runs.iter().filter(|(attempt, _)| attempt.arm == number).collect();
            let figures = complete(number);
            let against_first = match (&reference, &figures) {
                (Some(reference), Some(figures)) if number > 0 => Some(against(reference, figures)?),
                _ => None,
            };
            let over = |figure: fn(&Figures) -> f64| Spread::of(figures.as_ref()?.iter().map(|it| figure(it)).collect());
            let summaries: Option<Vec<Summary>> = figures.as_ref().map(|figures| figures.iter().map(|it| it.after).collect());
            let rates = figures.as_ref().and_then(|figures| figures.iter().map(|it| it.false_negative_rate).collect::<Option<Vec<_>>>());
            let dev = figures.as_ref().filter(|_| measured.chosen_apart).and_then(|figures| figures.iter().map(|it| it.dev).collect());
            let failed: Vec<String> =
                own.iter().filter_map(|(it, _)| Some(format!("seed {}: {}", it.seed, it.failure.as_ref()?))).collect();
            rows.push(Row {
                name: arm.name.clone(),
                quality: summaries.as_deref().and_then(Quality::of),
                against_first,
                training_seconds: over(|it| it.cost.training),
                mining_seconds: over(|it| it.cost.mining),
                false_negative_rate: rates.and_then(Spread::of),
                dev: dev.and_then(Spread::of),
                failure: (!failed.is_empty()).then(|| failed.join("; ")),
                runs: own.iter().map(|(attempt, figures)| single(attempt, figures.as_ref())).collect(),
            });
        }
        let Start { collection, collection_fingerprint, model, documents, pairs, steps, .. } = first.start.clone();
        let distinct = |of: fn(&Start) -> &str| {
            let mut values: Vec<String> = finished.iter().map(|(_, figures)| of(&figures.start).to_owned()).collect();
            values.sort();
            values.dedup();
            values
        };
        Ok(Self {
            folder: folder.display().to_string(),
            request: request.clone(),
            collection,
            collection_fingerprint,
            model,
            documents,
            pairs,
            split: measured.split.clone(),
            queries: first.after.queries,
            steps,
            devices: distinct(|start| &start.device),
            versions: distinct(|start| &start.version),
            starts: per_seed
                .iter()
                .map(|(seed, figures)| Seed { seed: *seed, model_fingerprint: figures.start.model_fingerprint.clone() })
                .collect(),
            rows,
            by_query: finished
                .iter()
                .map(|(attempt, figures)| ByQuery {
                    arm: arms[attempt.arm].name.clone(),
                    seed: attempt.seed,
                    evaluation: figures.evaluation.clone(),
                })
                .collect(),
        })
    }

    /// Rows of recipes of which a run failed.
    pub(crate) fn failures(&self) -> Vec<(&str, &str)> {
        self.rows.iter().filter_map(|row| Some((row.name.as_str(), row.failure.as_deref()?))).collect()
    }
}

fn baseline(name: &str, summaries: &[Summary]) -> Row {
    Row {
        name: name.to_owned(),
        quality: Quality::of(summaries),
        against_first: None,
        training_seconds: None,
        mining_seconds: None,
        false_negative_rate: None,
        dev: None,
        failure: None,
        runs: Vec::new(),
    }
}

fn single(attempt: &Attempt, figures: Option<&Figures>) -> Single {
    Single {
        seed: attempt.seed,
        run: attempt.folder.display().to_string(),
        metrics: figures.map(|figures| figures.after),
        cost: figures.map(|figures| figures.cost),
        failure: attempt.failure.clone(),
    }
}

/// Compares two recipes query by query, on the mean of each query over the seeds.
fn against(first: &[&Figures], other: &[&Figures]) -> Result<Against> {
    let of = |measure: Measure| -> Result<Significance> {
        let mean = |figures: &[&Figures]| over_seeds(figures.iter().map(|figures| &figures.evaluation), measure);
        let compared = significance::compare(&mean(first), &mean(other), &Sampling::default())?;
        Ok(Significance {
            difference: compared.difference,
            interval: compared.interval,
            p_randomisation: compared.p_randomisation,
            p_t: compared.p_t,
            p_seeds: over_seeds_alone(first, other, measure)?,
            queries: compared.queries,
        })
    };
    Ok(Against { ndcg: of(Measure::Ndcg(Some(10)))?, mrr: of(Measure::ReciprocalRank(Some(10)))?, recall: of(Measure::Recall(100))? })
}

/// p of the differences of the seeds' means.
fn over_seeds_alone(first: &[&Figures], other: &[&Figures], measure: Measure) -> Result<Option<f64>> {
    let means = |figures: &[&Figures]| figures.iter().map(|it| it.evaluation.mean(measure)).collect::<Vec<f64>>();
    if first.len() < 2 {
        return Ok(None);
    }
    Ok(Some(significance::compare(&means(first), &means(other), &Sampling { permutations: 1, resamples: 1, ..Sampling::default() })?.p_t))
}

/// A measure of every query, the mean over evaluations of the same queries.
fn over_seeds<'a>(evaluations: impl ExactSizeIterator<Item = &'a Evaluation>, measure: Measure) -> Vec<f64> {
    let count = evaluations.len() as f64;
    let mut sums: Vec<f64> = Vec::new();
    for evaluation in evaluations {
        let values = evaluation.values(measure);
        if sums.is_empty() {
            sums = vec![0.0; values.len()];
        }
        sums.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().map(|sum| sum / count).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use metrics::{Options, Run};

    #[test]
    fn spreads_by_hand() {
        let spread = Spread::of(vec![2.0, 4.0, 9.0]).unwrap();
        assert_eq!((spread.mean, spread.min, spread.max), (5.0, 2.0, 9.0));
        assert!((spread.deviation.unwrap() - 13.0f64.sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(vec![3.0]).unwrap().deviation, None);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    /// Two queries with one relevant document each; a run finds those of `found` at rank 1.
    fn figures(found: [bool; 2]) -> Figures {
        let (mut qrels, mut run) = (Qrels::new(), Run::new());
        for (query, found) in ["q1", "q2"].into_iter().zip(found) {
            qrels.insert(query, "d1", 1);
            run.push(query, if found { "d1" } else { "d2" }, 1.0);
        }
        let evaluation = metrics::evaluate(&qrels, &run, &Options { complete: true, ..Options::default() });
        let summary = crate::evaluation::summarise(&evaluation);
        Figures {
            start: Start::default(),
            bm25: summary,
            before: summary,
            after: summary,
            cost: Cost::default(),
            false_negative_rate: None,
            dev: None,
            evaluation,
        }
    }

    #[test]
    fn queries_are_paired_after_their_mean_over_seeds() {
        let (none, one, both) = (figures([false, false]), figures([true, false]), figures([true, true]));
        // Means of the queries: 1/2 and 0 against 1 and 1/2, a difference of 1/2 for both: of 4 assignments of signs 2 are as extreme.
        let outcome = against(&[&none, &one], &[&one, &both]).unwrap();
        assert_eq!((outcome.ndcg.difference, outcome.ndcg.p_randomisation, outcome.ndcg.queries), (0.5, 0.5, 2));
        assert_eq!((outcome.mrr.difference, outcome.recall.difference), (0.5, 0.5));
        assert_eq!(outcome.ndcg.interval, (0.5, 0.5));
        // Both seeds differ by 1/2; by 1/2 and 0 they say t = 1 with one degree of freedom, p = 1/2.
        assert_eq!(outcome.ndcg.p_seeds, Some(0.0));
        let p = against(&[&none, &one], &[&one, &one]).unwrap().ndcg.p_seeds.unwrap();
        assert!((p - 0.5).abs() < 1e-9, "{p}");
        assert_eq!(against(&[&none], &[&one]).unwrap().ndcg.p_seeds, None);
    }

    fn row(name: &str, values: &[f64], seconds: Option<f64>) -> Row {
        let summaries: Vec<Summary> =
            values.iter().map(|&value| Summary { ndcg: value, mrr: value, recall: value, map: value, queries: 500 }).collect();
        let seconds = |share: f64| seconds.and_then(|seconds| Spread::of(vec![seconds * share; values.len()]));
        Row { training_seconds: seconds(0.75), mining_seconds: seconds(0.25), ..baseline(name, &summaries) }
    }

    /// A table of made-up figures, for the pages.
    pub(crate) fn sample() -> Table {
        let mut ance = row("ance", &[0.5, 0.6], Some(8.0));
        ance.false_negative_rate = Spread::of(vec![0.01, 0.03]);
        let significance = Significance {
            difference: 0.125,
            interval: (0.1, 0.15),
            p_randomisation: 0.0004,
            p_t: 0.0005,
            p_seeds: Some(0.03),
            queries: 500,
        };
        ance.against_first = Some(Against { ndcg: significance, mrr: significance, recall: significance });
        let failed = Row { failure: Some("seed 2: a | b".into()), ..baseline("random", &[]) };
        Table {
            folder: "runs/compare-1".into(),
            request: Request {
                recipes: ["in-batch", "ance", "random"].map(str::to_owned).to_vec(),
                variants: Vec::new(),
                texts: std::collections::BTreeMap::new(),
                data: "builtin:demo".into(),
                model: None,
                seeds: 2,
                budget: None,
                device: "cpu".into(),
                set: Vec::new(),
            },
            collection: "demo".into(),
            collection_fingerprint: "c".into(),
            model: "builtin:tiny".into(),
            documents: 100,
            pairs: 50,
            split: "test".into(),
            queries: 500,
            steps: 20,
            devices: vec!["cpu".into()],
            versions: vec!["0.1.0".into()],
            starts: vec![Seed { seed: 1, model_fingerprint: "f".into() }],
            rows: vec![
                row("BM25", &[0.2], None),
                row("untrained", &[0.01, 0.02], None),
                Row { dev: Spread::of(vec![0.4, 0.6]), ..row("in-batch", &[0.25, 0.5], Some(4.0)) },
                ance,
                failed,
            ],
            by_query: vec![ByQuery { arm: "in-batch".into(), seed: 1, evaluation: figures([true, false]).evaluation }],
        }
    }
}
