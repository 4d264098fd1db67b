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
    session::{Fault, Halt, Judged, Model, Question},
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

/// Decisions, or an answer and what was wrong with it.
type Decided = Result<Vec<Decision>, (String, Answer)>;

/// What a model said about documents, or an answer and what was wrong with it.
type Verdict = Result<(HashMap<u32, &'static str>, Answer), (String, Answer)>;

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
                            estimate.add_like(strong, &self.verdict(context, prompt, unit, part), 1);
                        }
                        Some(Judged::Rejected { .. }) => {}
                        Some(Judged::Accepted { value, .. }) => {
                            let flagged = flagged(&shown, &decided(&value, &shown));
                            if !flagged.is_empty() {
                                estimate.add_to(context, strong, &self.verdict(context, prompt, unit, &flagged));
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

    /// Rows `{"qid", "pid", "decision": "neg", "drop" or "pos", "model", "prompt"}`, by ranking with `"answers_prompt"`. The model is the last that was
    /// asked about the pair.
    pub fn run(&self, context: &Context<'_>) -> Outcome {
        let mut driven = context.each("queries", &self.units, |unit| match &self.method {
            Method::Verdict { prompt, strong } => self.by_verdict(context, prompt, strong.as_ref(), unit),
            Method::Ranking { answers, ranking } => self.by_ranking(context, answers, ranking, unit),
        });
        let mut outcome = Outcome::of(&mut driven, "queries", |at| json!({ "query": context.query_id(self.units[at].query) }));
        for (unit, decided) in self.units.iter().zip(driven.results) {
            match decided {
                Some(Ok(decisions)) => outcome.rows.extend(decisions.into_iter().map(|(document, decision, made)| {
                    let row = json!({ "qid": context.query_id(unit.query), "pid": context.document_id(document), "decision": decision });
                    with(row, made)
                })),
                Some(Err((reason, answer))) => outcome.reject(reason, &answer),
                None => {}
            }
        }
        outcome
    }

    /// Relevant for the last model asked: a positive. Unsure: dropped. The rest stay negatives.
    fn by_verdict(&self, context: &Context<'_>, prompt: &Prompt, strong: Option<&Model>, unit: &Unit) -> Result<Decided, Halt> {
        let shown = self.shown(context, unit);
        let (verdicts, answer) = match self.ask_verdict(context, prompt, context.model, unit, &shown)? {
            Ok(found) => found,
            Err(bad) => return Ok(Err(bad)),
        };
        let flagged = flagged(&shown, &verdicts);
        let second = match strong.filter(|_| !flagged.is_empty()) {
            None => None,
            Some(strong) => match self.ask_verdict(context, prompt, strong, unit, &flagged)? {
                Ok(found) => Some(found),
                Err(bad) => return Ok(Err(bad)),
            },
        };
        let decide = |document: &u32| {
            let (verdicts, answer) = match &second {
                Some((verdicts, answer)) if flagged.contains(document) => (verdicts, answer),
                _ => (&verdicts, &answer),
            };
            (*document, verdicts.get(document).copied().unwrap_or("neg"), made_by(answer).to_vec())
        };
        Ok(Ok(unit.negatives.iter().map(decide).collect()))
    }

    fn ask_verdict(&self, context: &Context<'_>, prompt: &Prompt, model: &Model, unit: &Unit, shown: &[u32]) -> Result<Verdict, Halt> {
        let question = self.verdict(context, prompt, unit, shown);
        Ok(match context.session.ask(model, &question, |answer| verdicts_in(answer, shown.len()))? {
            Judged::Accepted { value, answer } => Ok((decided(&value, shown), answer)),
            Judged::Rejected { reason, answer } => Err((reason, answer)),
        })
    }

    fn by_ranking(&self, context: &Context<'_>, answers_prompt: &Prompt, ranking_prompt: &Prompt, unit: &Unit) -> Result<Decided, Halt> {
        let shown = self.shown(context, unit);
        let judged = context.ask(&self.listed(context, "answers", answers_prompt, unit, &shown), |answer| {
            let Answers { answers } = answers::json(&answer.text)?;
            if answers.len() != shown.len() {
                return Err(Fault::Form(format!("it has {} entries for {} passages", answers.len(), shown.len())));
            }
            Ok(answers)
        })?;
        let found = match judged {
            Judged::Accepted { value, .. } => value,
            Judged::Rejected { reason, answer } => return Ok(Err((reason, answer))),
        };
        let judged = context.ask(&self.listed(context, "ranking", ranking_prompt, unit, &shown), |answer| {
            let Ranking { ranking } = answers::json(&answer.text)?;
            in_range(&ranking, shown.len())?;
            let named: HashSet<usize> = ranking.iter().copied().collect();
            if named.len() != shown.len() || ranking.len() != shown.len() {
                return Err(Fault::Form(format!("it does not name each of the {} passages once", shown.len())));
            }
            Ok(ranking)
        })?;
        let (ranking, answer) = match judged {
            Judged::Accepted { value, answer } => (value, answer),
            Judged::Rejected { reason, answer } => return Ok(Err((reason, answer))),
        };
        let made: Vec<_> = made_by(&answer).into_iter().chain([("answers_prompt", json!(answers_prompt.version))]).collect();
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
        Ok(Ok(unit.negatives.iter().map(decide).collect()))
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

/// The verdicts of an answer on so many passages.
fn verdicts_in(answer: &Answer, passages: usize) -> Result<Verdicts, Fault> {
    let verdicts: Verdicts = answers::json(&answer.text)?;
    in_range(&verdicts.relevant, passages)?;
    in_range(&verdicts.unsure, passages)?;
    Ok(verdicts)
}

/// What they come to for the passages that are not irrelevant. Named in both lists: not sure.
fn decided(verdicts: &Verdicts, shown: &[u32]) -> HashMap<u32, &'static str> {
    let named = |numbers: &[usize], decision| numbers.iter().map(move |number| (shown[number - 1], decision)).collect::<Vec<_>>();
    named(&verdicts.relevant, "pos").into_iter().chain(named(&verdicts.unsure, "drop")).collect()
}

/// The passages that a model did not find irrelevant, in the order in which they were shown.
fn flagged(shown: &[u32], verdicts: &HashMap<u32, &'static str>) -> Vec<u32> {
    shown.iter().copied().filter(|document| verdicts.contains_key(document)).collect()
}
