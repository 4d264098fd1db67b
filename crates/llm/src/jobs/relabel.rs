//! Which mined negatives are relevant after all: decisions for every (query, negative) pair of given lists.
//!
//! Two ways. By verdict (RLHN, arXiv 2505.16967): a model names the relevant ones, and a stronger one, if there is one, looks at those that the
//! first did not find irrelevant. By ranking (ARHN, arXiv 2604.11092): answers are looked for in the passages, and the passages ranked
//! together with the positives: what is ranked above the best positive becomes one, what is below and has an answer is dropped.

use std::collections::{HashMap, HashSet};

use corpus::{Judgments, NegativeLists};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Estimate, Outcome, ids, in_range, made_by, with};
use crate::{
    answers,
    journal::Answer,
    prompt::Prompt,
    session::{Fault, Halt, Judged, Model, Question, Unused},
};

/// Positives that a prompt shows at most.
const POSITIVES: usize = 5;

/// How it is decided.
#[derive(Debug)]
pub enum Method {
    /// By verdict.
    Verdict {
        /// What is asked.
        prompt: Prompt,
        /// Who looks again at what the first model did not find irrelevant.
        strong: Option<Model>,
    },
    /// By ranking.
    Ranking {
        /// What is asked first.
        answers: Prompt,
        /// What is asked then.
        ranking: Prompt,
    },
}

/// The job.
#[derive(Debug)]
pub struct Relabel {
    units: Vec<Unit>,
    method: Method,
}

/// One question about the negatives of one query.
#[derive(Debug, Clone)]
struct Unit {
    query: u32,
    positives: Vec<u32>,
    negatives: Vec<u32>,
}

#[derive(Deserialize)]
struct Verdicts {
    relevant: Vec<usize>,
    #[serde(default)]
    unsure: Vec<usize>,
}

#[derive(Deserialize)]
struct Answers {
    answers: Vec<Option<String>>,
}

#[derive(Deserialize)]
struct Ranking {
    ranking: Vec<usize>,
}

/// A decision on a document, with its provenance.
type Decision = (u32, &'static str, Vec<(&'static str, Value)>);

/// What a unit came to: no decisions where the answer that they hang on could not be used.
struct Decided {
    decisions: Vec<Decision>,
    unused: Vec<Unused>,
}

/// What a model said about documents.
type Verdict = HashMap<u32, &'static str>;

impl Relabel {
    /// The first `depth` negatives of every query of `split` that has a list, at most `at_once` in one request.
    pub fn new(lists: &NegativeLists, split: &Judgments, depth: usize, at_once: usize, method: Method) -> Self {
        let mut units = Vec::new();
        for query in split.queries() {
            let positives: Vec<u32> = split.positives(query).collect();
            let listed = lists.row(query).iter().map(|listed| listed.document).filter(|document| !positives.contains(document));
            let negatives: Vec<u32> = listed.take(depth).collect();
            let shown: Vec<u32> = positives.into_iter().take(POSITIVES).collect();
            units.extend(negatives.chunks(at_once.max(1)).map(|part| Unit { query, positives: shown.clone(), negatives: part.to_vec() }));
        }
        Self { units, method }
    }

    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// What it costs. A second look at what is not known yet is reckoned with a quarter of the pairs.
    pub fn estimate(&self, context: &Context<'_>) -> Estimate {
        let mut estimate = Estimate::default();
        for unit in &self.units {
            match &self.method {
                Method::Verdict { prompt, strong } => {
                    let shown = self.shown(context, unit);
                    let question = self.verdict(context, prompt, unit, &shown);
                    estimate.add(context, &question);
                    let Some(strong) = strong else { continue };
                    match context.known(&question, |answer| verdicts_in(answer, shown.len())) {
                        None => {
                            let part = &unit.negatives[..unit.negatives.len().div_ceil(4)];
                            estimate.add_like(context, strong, &self.second(context, prompt, unit, part), 1);
                        }
                        Some(judged) => {
                            let flagged = judged.accepted.map_or_else(Vec::new, |(value, _)| flagged(&shown, &decided(&value, &shown)));
                            if !flagged.is_empty() {
                                estimate.add_to(context, strong, &self.second(context, prompt, unit, &flagged));
                            }
                        }
                    }
                }
                Method::Ranking { answers, ranking } => {
                    let shown = self.shown(context, unit);
                    estimate.add(context, &self.listed(context, "answers", answers, unit, &shown));
                    estimate.add(context, &self.listed(context, "ranking", ranking, unit, &shown));
                }
            }
        }
        estimate
    }

    /// Rows `{"qid", "pid", "decision": "neg", "drop" or "pos", "positives": [id], "model", "prompt", "repair_prompt"?}`: the positives that were
    /// shown, and the last model that was asked about the pair; where that is the stronger one `"first_model"` is the other, and where it gave no
    /// answer that can be used `"unusable"` says why. By ranking with `"answers_prompt"`.
    pub fn run(&self, context: &Context<'_>) -> Outcome {
        let mut driven = context.each("queries", &self.units, |unit| match &self.method {
            Method::Verdict { prompt, strong } => self.by_verdict(context, prompt, strong.as_ref(), unit),
            Method::Ranking { answers, ranking } => self.by_ranking(context, answers, ranking, unit),
        });
        let mut outcome = Outcome::of(&mut driven, "queries", |at| json!({ "query": context.query_id(self.units[at].query) }));
        for (unit, decided) in self.units.iter().zip(driven.results) {
            let Some(decided) = decided else { continue };
            outcome.reject_all(decided.unused);
            let (query, positives) = (context.query_id(unit.query), ids(context, &unit.positives));
            outcome.rows.extend(decided.decisions.into_iter().map(|(document, decision, made)| {
                let id = context.document_id(document);
                with(json!({ "qid": query, "pid": id, "decision": decision, "positives": positives }), made)
            }));
        }
        outcome
    }

    /// Relevant for the last model asked: a positive. Unsure: dropped. The rest stay negatives. What the stronger model was to look at and gave no
    /// answer on that can be used is in doubt: dropped, so that nothing is trained on it.
    fn by_verdict(&self, context: &Context<'_>, prompt: &Prompt, strong: Option<&Model>, unit: &Unit) -> Result<Decided, Halt> {
        let shown = self.shown(context, unit);
        let Judged { accepted, mut unused } = ask_verdict(context, context.model, &self.verdict(context, prompt, unit, &shown), &shown)?;
        let Some((verdicts, first)) = accepted else { return Ok(Decided { decisions: Vec::new(), unused }) };
        let flagged = flagged(&shown, &verdicts);
        let mut second = None;
        if let Some(strong) = strong.filter(|_| !flagged.is_empty()) {
            let judged = ask_verdict(context, strong, &self.second(context, prompt, unit, &flagged), &flagged)?;
            unused.extend(judged.unused);
            second = Some(judged.accepted);
        }
        let before = ("first_model", json!(first.model));
        let decide = |document: &u32| {
            let by = |verdicts: &Verdict| verdicts.get(document).copied().unwrap_or("neg");
            let (decision, made) = match (second.as_ref().filter(|_| flagged.contains(document)), unused.last()) {
                (None, _) => (by(&verdicts), made_by(&first, &[])),
                (Some(Some((verdicts, answer))), _) => {
                    (by(verdicts), made_by(answer, &[&first]).into_iter().chain([before.clone()]).collect())
                }
                (Some(None), last) => {
                    let made = last.map(|last| made_by(&last.answer, &[&first]).into_iter().chain([("unusable", json!(last.reason))]));
                    ("drop", made.into_iter().flatten().chain([before.clone()]).collect())
                }
            };
            (*document, decision, made)
        };
        Ok(Decided { decisions: unit.negatives.iter().map(decide).collect(), unused })
    }

    fn by_ranking(&self, context: &Context<'_>, answers_prompt: &Prompt, ranking_prompt: &Prompt, unit: &Unit) -> Result<Decided, Halt> {
        let shown = self.shown(context, unit);
        let Judged { accepted, mut unused } = context.ask(&self.listed(context, "answers", answers_prompt, unit, &shown), |answer| {
            let Answers { answers } = answers::json(&answer.text)?;
            if answers.len() != shown.len() {
                return Err(Fault::Form(format!("it has {} entries for {} passages", answers.len(), shown.len())));
            }
            Ok(answers)
        })?;
        let Some((found, first)) = accepted else { return Ok(Decided { decisions: Vec::new(), unused }) };
        let judged = context.ask(&self.listed(context, "ranking", ranking_prompt, unit, &shown), |answer| {
            let Ranking { ranking } = answers::json(&answer.text)?;
            in_range(&ranking, shown.len())?;
            let named: HashSet<usize> = ranking.iter().copied().collect();
            if named.len() != shown.len() || ranking.len() != shown.len() {
                return Err(Fault::Form(format!("it does not name each of the {} passages once", shown.len())));
            }
            Ok(ranking)
        })?;
        unused.extend(judged.unused);
        let Some((ranking, answer)) = judged.accepted else { return Ok(Decided { decisions: Vec::new(), unused }) };
        let made: Vec<_> = made_by(&answer, &[&first]).into_iter().chain([("answers_prompt", json!(answers_prompt.version))]).collect();
        // Of several positives the best ranked: fewer negatives are moved.
        let best = ranking.iter().position(|number| unit.positives.contains(&shown[number - 1])).unwrap_or(0);
        let decide = |document: &u32| {
            let at = shown.iter().position(|it| it == document).unwrap_or(0);
            let rank = ranking.iter().position(|number| number - 1 == at).unwrap_or(usize::MAX);
            let has_answer = found[at].as_deref().is_some_and(|answer| !answer.trim().is_empty());
            let decision = match (rank < best, has_answer) {
                (true, _) => "pos",
                (false, true) => "drop",
                (false, false) => "neg",
            };
            (*document, decision, made.clone())
        };
        Ok(Decided { decisions: unit.negatives.iter().map(decide).collect(), unused })
    }

    /// Second looks have a name of their own: both models may be called the same, at other endpoints, and be shown the same passages.
    fn second<'a>(&self, context: &Context<'_>, prompt: &'a Prompt, unit: &Unit, flagged: &[u32]) -> Question<'a> {
        self.listed(context, "second verdicts", prompt, unit, flagged)
    }

    /// The passages of a unit in an order that says nothing: the negatives, and for a ranking the positives among them.
    fn shown(&self, context: &Context<'_>, unit: &Unit) -> Vec<u32> {
        let with_positives = matches!(self.method, Method::Ranking { .. });
        let all: Vec<u32> = unit.negatives.iter().chain(unit.positives.iter().filter(|_| with_positives)).copied().collect();
        context.shuffled(&all, context.query_id(unit.query))
    }

    fn verdict<'a>(&self, context: &Context<'_>, prompt: &'a Prompt, unit: &Unit, shown: &[u32]) -> Question<'a> {
        self.listed(context, "verdicts", prompt, unit, shown)
    }

    fn listed<'a>(&self, context: &Context<'_>, stage: &'static str, prompt: &'a Prompt, unit: &Unit, shown: &[u32]) -> Question<'a> {
        let (positives, passages, count) = (context.numbered(&unit.positives), context.numbered(shown), shown.len().to_string());
        let query = context.collection.queries.text(unit.query);
        Question {
            stage,
            prompt,
            messages: prompt.filled(&[("query", query), ("positives", &positives), ("passages", &passages), ("count", &count)]),
            sources: json!({
                "query": context.query_id(unit.query), "positives": ids(context, &unit.positives), "passages": ids(context, shown),
            }),
            sample: 0,
        }
    }
}

fn ask_verdict(context: &Context<'_>, model: &Model, question: &Question<'_>, shown: &[u32]) -> Result<Judged<Verdict>, Halt> {
    context.session.ask(model, question, |answer| verdicts_in(answer, shown.len()).map(|verdicts| decided(&verdicts, shown)))
}

/// The verdicts of an answer on so many passages.
fn verdicts_in(answer: &Answer, passages: usize) -> Result<Verdicts, Fault> {
    let verdicts: Verdicts = answers::json(&answer.text)?;
    in_range(&verdicts.relevant, passages)?;
    in_range(&verdicts.unsure, passages)?;
    Ok(verdicts)
}

/// What they come to for the passages that are not irrelevant. Named in both lists: not sure.
fn decided(verdicts: &Verdicts, shown: &[u32]) -> Verdict {
    let named = |numbers: &[usize], decision| numbers.iter().map(move |number| (shown[number - 1], decision)).collect::<Vec<_>>();
    named(&verdicts.relevant, "pos").into_iter().chain(named(&verdicts.unsure, "drop")).collect()
}

/// The passages that a model did not find irrelevant, in the order in which they were shown.
fn flagged(shown: &[u32], verdicts: &Verdict) -> Vec<u32> {
    shown.iter().copied().filter(|document| verdicts.contains_key(document)).collect()
}
