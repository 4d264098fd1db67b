//! Queries for documents whose positive and hard negative a model then chooses among what is retrieved for them (Gecko's FRet,
//! arXiv 2403.20327).
//!
//! The paper scores passages by relevance classification and by the likelihood of the query given the passage, and ranks by the sum of
//! reciprocal ranks. Chat endpoints do not give the likelihood of a given text, so that the second score is asked for as well. It scores each passage
//! for itself; here one question shows all that were retrieved, in an order that is no part of the method.

use serde::Deserialize;
use serde_json::json;

use super::{Context, Estimate, Outcome, ids, made_by, with};
use crate::{
    answers,
    journal::Answer,
    prompt::Prompt,
    quality::{Quality, Seen},
    session::{Fault, Halt, Judged, Model, Question, Stop, Unused},
};

/// What passages are judged by.
const STAGES: [&str; 2] = ["relevance", "likelihood"];

/// Finds candidates: for each query text the best documents, best first.
pub type Retrieve<'a> = dyn Fn(&[String], usize) -> Result<Vec<Vec<u32>>, String> + 'a;

/// The job.
#[derive(Debug)]
pub struct Gecko {
    /// Documents to write for.
    pub documents: Vec<u32>,
    /// Passages that are judged for each query.
    pub candidates: usize,
    /// What is asked first, with examples of the task or without.
    pub query_prompt: Prompt,
    /// What is asked about passages, in this order: relevance, likelihood.
    pub score_prompts: [Prompt; 2],
    /// Who judges them: the model that writes, at a temperature to judge at.
    pub judge: Model,
    /// What a query must be.
    pub quality: Quality,
}

#[derive(Deserialize)]
struct Asked {
    task: String,
    query: String,
}

#[derive(Deserialize)]
struct Scores {
    scores: Vec<f64>,
}

/// A query and the document that it was written for.
struct Written {
    seed: u32,
    task: String,
    query: String,
    answer: Answer,
}

/// A query and what is found for it, best first.
type Unit = (Written, Vec<u32>);

/// What was made of the passages of a query.
struct Ranked {
    /// The best first; none where an answer could not be used.
    order: Vec<u32>,
    /// As the model saw them.
    shown: Vec<u32>,
    answers: Vec<Answer>,
    unused: Vec<Unused>,
}

impl Gecko {
    /// What it costs; for queries that are not written yet, with passages as long as the documents written for.
    ///
    /// # Errors
    /// What `retrieve` fails with: what was found for the queries that the journal holds says which questions it answers.
    pub fn estimate(&self, context: &Context<'_>, retrieve: &Retrieve<'_>) -> Result<Estimate, String> {
        let mut estimate = Estimate::default();
        let mut known = Vec::new();
        for document in &self.documents {
            let question = self.query_question(context, *document);
            estimate.add(context, &question);
            known.push(context.known(&question, |answer| self.asked(context, *document, answer)));
        }
        let open = known.iter().filter(|judged| judged.is_none()).count() as u64;
        let written = self.written(context, known, &mut Outcome::default());
        for (written, found) in self.units(written, retrieve)?.iter().filter(|unit| unit.1.len() >= 2) {
            let shown = self.shown(context, written, found);
            for which in 0..STAGES.len() {
                let question = self.score_question(context, which, written.seed, (&written.task, &written.query), &shown);
                estimate.add_to(context, &self.judge, &question);
                // What was refused is not asked about any further.
                let known = context.session.known(&self.judge, &question, |answer| scores_of(answer, shown.len()));
                if known.is_some_and(|judged| judged.accepted.is_none()) {
                    break;
                }
            }
        }
        if open == 0 {
            return Ok(estimate);
        }
        let (count, all) = (self.candidates.min(context.collection.documents.len()), self.documents.len());
        let like: Vec<u32> = (0..count).map(|at| self.documents[at * all / count]).collect();
        let text = "word ".repeat(12);
        for which in 0..STAGES.len() {
            let question = self.score_question(context, which, self.documents[0], (&text, &text), &like);
            estimate.add_like(context, &self.judge, &question, open);
        }
        Ok(estimate)
    }

    fn asked(&self, context: &Context<'_>, document: u32, answer: &Answer) -> Result<Asked, Fault> {
        let asked: Asked = answers::json(&answer.text)?;
        let sources = [context.document(document), &self.query_prompt.text, self.query_prompt.examples()];
        self.quality.check(&asked.query, &sources, answer.logprob)?;
        if asked.task.trim().is_empty() { Err(Fault::Form("the task is empty".into())) } else { Ok(asked) }
    }

    /// Rows `{"_id", "text", "positive": [id], "negatives": [id], "task", "source", "passages": [id], "model", "prompt", "repair_prompt"?,
    /// "score_prompts"}`: the positive is the best of the passages that were judged and may be another document than the one written for, the
    /// negative is the last of them.
    ///
    /// # Errors
    /// What `retrieve` fails with.
    pub fn run(&self, context: &Context<'_>, retrieve: &Retrieve<'_>) -> Result<Outcome, String> {
        let mut driven = context.each("queries", &self.documents, |document| {
            context.ask(&self.query_question(context, *document), |answer| self.asked(context, *document, answer))
        });
        let mut asked = Outcome::of(&mut driven, "queries", |at| json!({ "document": context.document_id(self.documents[at]) }));
        let written = self.written(context, driven.results, &mut asked);
        // Whoever stops it does not wait until the collection is encoded for passages that nobody will be asked about.
        if matches!(asked.stop, Some(Stop::Interrupted)) {
            return Ok(asked);
        }
        let units = self.units(written, retrieve)?;
        Ok(asked.then(self.choose(context, &units)))
    }

    /// The queries that are used, one of those that say the same; what is not used goes to `outcome`.
    fn written(&self, context: &Context<'_>, judged: Vec<Option<Judged<Asked>>>, outcome: &mut Outcome) -> Vec<Written> {
        let mut seen = Seen::with(context.collection.queries.texts().iter());
        let mut written = Vec::new();
        for (document, judged) in self.documents.iter().zip(judged) {
            let Some(judged) = judged else { continue };
            outcome.reject_all(judged.unused);
            match judged.accepted {
                Some((asked, answer)) if seen.first(&asked.query) => {
                    let (task, query) = (asked.task.trim().to_owned(), asked.query.trim().to_owned());
                    written.push(Written { seed: *document, task, query, answer });
                }
                Some((_, answer)) => outcome.reject("duplicate: another query says the same", &answer),
                None => {}
            }
        }
        written
    }

    /// Each query with the passages that are judged for it.
    fn units(&self, written: Vec<Written>, retrieve: &Retrieve<'_>) -> Result<Vec<Unit>, String> {
        let texts: Vec<String> = written.iter().map(|it| it.query.clone()).collect();
        let found = if texts.is_empty() { Vec::new() } else { retrieve(&texts, self.candidates)? };
        let with_seed = |(written, mut found): (Written, Vec<u32>)| {
            // The document written for is always judged.
            if !found.contains(&written.seed) {
                found.truncate(self.candidates.saturating_sub(1));
                found.push(written.seed);
            }
            (written, found)
        };
        Ok(written.into_iter().zip(found).map(with_seed).collect())
    }

    fn choose(&self, context: &Context<'_>, units: &[Unit]) -> Outcome {
        let mut driven = context.each("passages", units, |(written, found)| self.judge(context, written, found));
        let mut outcome = Outcome::of(&mut driven, "passages", |at| json!({ "document": context.document_id(units[at].0.seed) }));
        for ((written, found), ranked) in units.iter().zip(driven.results) {
            let Some(ranked) = ranked else { continue };
            outcome.reject_all(ranked.unused);
            match ranked.order[..] {
                [best, .., last] => {
                    let seed = context.document_id(written.seed);
                    let row = json!({
                        "_id": format!("written:{seed}"), "text": written.query, "positive": [context.document_id(best)],
                        "negatives": [context.document_id(last)], "task": written.task, "source": seed, "passages": ids(context, &ranked.shown),
                    });
                    let judged_with = ("score_prompts", json!([self.score_prompts[0].version, self.score_prompts[1].version]));
                    let made = made_by(&written.answer, &ranked.answers.iter().collect::<Vec<_>>());
                    outcome.rows.push(with(row, made.into_iter().chain([judged_with])));
                }
                _ if found.len() < 2 => outcome.reject("no other passage was found for the query", &written.answer),
                _ => {}
            }
        }
        outcome
    }

    /// The candidates by the sum of the reciprocal ranks that both scores give them.
    fn judge(&self, context: &Context<'_>, written: &Written, found: &[u32]) -> Result<Ranked, Halt> {
        let shown = self.shown(context, written, found);
        let mut ranked = Ranked { order: Vec::new(), shown, answers: Vec::new(), unused: Vec::new() };
        if found.len() < 2 {
            return Ok(ranked);
        }
        let mut fused = vec![0.0; found.len()];
        for which in 0..STAGES.len() {
            let question = self.score_question(context, which, written.seed, (&written.task, &written.query), &ranked.shown);
            let judged = context.session.ask(&self.judge, &question, |answer| scores_of(answer, found.len()))?;
            ranked.unused.extend(judged.unused);
            let Some((scores, answer)) = judged.accepted else { return Ok(ranked) };
            ranked.answers.push(answer);
            // Equal scores: as they were retrieved.
            let score = |document: &u32| ranked.shown.iter().position(|it| it == document).map_or(f64::MIN, |at| scores[at]);
            let mut order: Vec<usize> = (0..found.len()).collect();
            order.sort_by(|a, b| score(&found[*b]).total_cmp(&score(&found[*a])));
            order.iter().enumerate().for_each(|(rank, at)| fused[*at] += 1.0 / (rank + 1) as f64);
        }
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by(|a, b| fused[*b].total_cmp(&fused[*a]));
        ranked.order = order.into_iter().map(|at| found[at]).collect();
        Ok(ranked)
    }

    /// The passages of a query as the model sees them, in an order that says nothing: a function of which they are, not of how they were ranked. So a
    /// retriever that ranks the same ones otherwise asks nothing anew.
    fn shown(&self, context: &Context<'_>, written: &Written, found: &[u32]) -> Vec<u32> {
        // Earlier versions shuffled them as they were ranked: what was asked so is answered.
        let as_ranked = context.shuffled(found, &written.query);
        let question = self.score_question(context, 0, written.seed, (&written.task, &written.query), &as_ranked);
        if context.session.has(&self.judge, &question) {
            return as_ranked;
        }
        let mut sorted = found.to_vec();
        sorted.sort_unstable();
        context.shuffled(&sorted, &written.query)
    }

    fn query_question(&self, context: &Context<'_>, document: u32) -> Question<'_> {
        Question {
            stage: "queries",
            prompt: &self.query_prompt,
            messages: self.query_prompt.filled(&[("examples", self.query_prompt.examples()), ("document", context.document(document))]),
            sources: json!({ "document": context.document_id(document) }),
            sample: 0,
        }
    }

    /// What is asked about the passages of a query that was written for `seed`.
    pub(crate) fn score_question(
        &self,
        context: &Context<'_>,
        which: usize,
        seed: u32,
        (task, query): (&str, &str),
        shown: &[u32],
    ) -> Question<'_> {
        let prompt = &self.score_prompts[which];
        let (passages, count) = (context.numbered(shown), shown.len().to_string());
        Question {
            stage: STAGES[which],
            prompt,
            messages: prompt.filled(&[("task", task), ("query", query), ("passages", &passages), ("count", &count)]),
            sources: json!({ "document": context.document_id(seed), "passages": ids(context, shown) }),
            sample: 0,
        }
    }
}

/// The scores of an answer on so many passages.
fn scores_of(answer: &Answer, passages: usize) -> Result<Vec<f64>, Fault> {
    let Scores { scores } = answers::json(&answer.text)?;
    if scores.len() != passages || scores.iter().any(|score| !score.is_finite()) {
        return Err(Fault::Form(format!("it has {} scores for {passages} passages", scores.len())));
    }
    Ok(scores)
}
