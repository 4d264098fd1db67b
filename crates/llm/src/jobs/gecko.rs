//! Queries for documents whose positive and hard negative a model then chooses among what is retrieved for them (Gecko's FRet,
//! arXiv 2403.20327).
//!
//! The paper scores passages by relevance classification and by the likelihood of the query given the passage, and ranks by the sum of
//! reciprocal ranks. Chat endpoints do not give the likelihood of a given text, so that the second score is asked for as well.

use serde::Deserialize;
use serde_json::json;

use super::{Context, Estimate, Outcome, ids, made_by, with};
use crate::{
    answers,
    journal::Answer,
    prompt::Prompt,
    quality::{Quality, Seen},
    session::{Fault, Halt, Judged, Question},
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
    /// What is asked first.
    pub query_prompt: Prompt,
    /// What is asked about passages, in this order: relevance, likelihood.
    pub score_prompts: [Prompt; 2],
    /// Examples of the task, as [`read_examples`](super::read_examples) gives them; may be empty.
    pub examples: String,
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

impl Gecko {
    /// What it costs; passages as long as the documents written for.
    pub fn estimate(&self, context: &Context<'_>) -> Estimate {
        let mut estimate = Estimate::default();
        let like: Vec<u32> = self.documents.iter().copied().cycle().take(self.candidates.min(self.documents.len() * 2)).collect();
        for document in &self.documents {
            let question = self.query_question(context, *document);
            estimate.add(context, &question);
            if let Some(Judged::Rejected { .. }) = context.known(&question, |answer| self.asked(context, *document, answer)) {
                continue;
            }
            for (which, stage) in STAGES.into_iter().enumerate() {
                // Which passages are shown is known after retrieval alone: the journal is asked by stage, prompt and document.
                let (id, version) = (context.document_id(*document), &self.score_prompts[which].version);
                let is_it = |it: &Answer| {
                    it.stage == stage && it.prompt == *version && it.model == context.model.name && it.sources["document"] == id
                };
                if context.session.any(is_it) {
                    estimate.answered += 1;
                } else {
                    let text = "word ".repeat(12);
                    estimate.add_like(context.model, &self.score_question(context, which, *document, (&text, &text), &like), 1);
                }
            }
        }
        estimate
    }

    fn asked(&self, context: &Context<'_>, document: u32, answer: &Answer) -> Result<Asked, Fault> {
        let asked: Asked = answers::json(&answer.text)?;
        self.quality.check(&asked.query, &[context.document(document), &self.query_prompt.text], answer.logprob)?;
        if asked.task.trim().is_empty() { Err(Fault::Form("the task is empty".into())) } else { Ok(asked) }
    }

    /// Rows `{"_id", "text", "positive": [id], "negatives": [id], "task", "source", "model", "prompt", "score_prompts"}`: the positive is the best
    /// of the candidates and may be another document than the one written for, the negative is the last of them.
    ///
    /// # Errors
    /// What `retrieve` fails with.
    pub fn run(&self, context: &Context<'_>, retrieve: &Retrieve<'_>) -> Result<Outcome, String> {
        let mut driven = context.each("queries", &self.documents, |document| {
            context.ask(&self.query_question(context, *document), |answer| self.asked(context, *document, answer))
        });
        let mut asked = Outcome::of(&mut driven, "queries", |at| json!({ "document": context.document_id(self.documents[at]) }));
        let mut seen = Seen::with(context.collection.queries.texts().iter());
        let mut written = Vec::new();
        for (document, judged) in self.documents.iter().zip(driven.results) {
            match judged {
                Some(Judged::Accepted { value, answer }) if seen.first(&value.query) => {
                    let (task, query) = (value.task.trim().to_owned(), value.query.trim().to_owned());
                    written.push(Written { seed: *document, task, query, answer });
                }
                Some(Judged::Accepted { answer, .. }) => asked.reject("duplicate: another query says the same".into(), &answer),
                Some(Judged::Rejected { reason, answer }) => asked.reject(reason, &answer),
                None => {}
            }
        }
        let texts: Vec<String> = written.iter().map(|it| it.query.clone()).collect();
        let found = if texts.is_empty() { Vec::new() } else { retrieve(&texts, self.candidates)? };
        Ok(asked.then(self.choose(context, &written, found)))
    }

    fn choose(&self, context: &Context<'_>, written: &[Written], found: Vec<Vec<u32>>) -> Outcome {
        let units: Vec<(&Written, Vec<u32>)> = written
            .iter()
            .zip(found)
            .map(|(written, mut found)| {
                // The document written for is always judged.
                if !found.contains(&written.seed) {
                    found.truncate(self.candidates.saturating_sub(1));
                    found.push(written.seed);
                }
                (written, found)
            })
            .collect();
        let mut driven = context.each("passages", &units, |(written, found)| self.judge(context, written, found));
        let mut outcome = Outcome::of(&mut driven, "passages", |at| json!({ "document": context.document_id(units[at].0.seed) }));
        for ((written, _), judged) in units.iter().zip(driven.results) {
            match judged {
                Some(Ok(ranked)) if ranked.len() >= 2 => {
                    let (seed, best, last) = (context.document_id(written.seed), ranked[0], ranked[ranked.len() - 1]);
                    let row = json!({
                        "_id": format!("written:{seed}"), "text": written.query, "positive": [context.document_id(best)],
                        "negatives": [context.document_id(last)], "task": written.task, "source": seed,
                    });
                    let judged_with = json!([self.score_prompts[0].version, self.score_prompts[1].version]);
                    outcome.rows.push(with(row, made_by(&written.answer).into_iter().chain([("score_prompts", judged_with)])));
                }
                Some(Ok(_)) => outcome.reject("no other passage was found for the query".into(), &written.answer),
                Some(Err((reason, answer))) => outcome.reject(reason, &answer),
                None => {}
            }
        }
        outcome
    }

    /// The candidates by the sum of the reciprocal ranks that both scores give them, or what was wrong with an answer.
    fn judge(&self, context: &Context<'_>, written: &Written, found: &[u32]) -> Result<Result<Vec<u32>, (String, Answer)>, Halt> {
        if found.len() < 2 {
            return Ok(Ok(found.to_vec()));
        }
        let shown = context.shuffled(found, &written.query);
        let mut fused = vec![0.0; found.len()];
        for prompt in 0..2 {
            let question = self.score_question(context, prompt, written.seed, (&written.task, &written.query), &shown);
            let judged = context.ask(&question, |answer| {
                let Scores { scores } = answers::json(&answer.text)?;
                if scores.len() != shown.len() || scores.iter().any(|score| !score.is_finite()) {
                    return Err(Fault::Form(format!("it has {} scores for {} passages", scores.len(), shown.len())));
                }
                Ok(scores)
            })?;
            let scores = match judged {
                Judged::Accepted { value, .. } => value,
                Judged::Rejected { reason, answer } => return Ok(Err((reason, answer))),
            };
            // Equal scores: as they were retrieved.
            let score = |document: &u32| shown.iter().position(|it| it == document).map_or(f64::MIN, |at| scores[at]);
            let mut order: Vec<usize> = (0..found.len()).collect();
            order.sort_by(|a, b| score(&found[*b]).total_cmp(&score(&found[*a])));
            order.iter().enumerate().for_each(|(rank, at)| fused[*at] += 1.0 / (rank + 1) as f64);
        }
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by(|a, b| fused[*b].total_cmp(&fused[*a]));
        Ok(Ok(order.into_iter().map(|at| found[at]).collect()))
    }

    fn query_question(&self, context: &Context<'_>, document: u32) -> Question<'_> {
        Question {
            stage: "queries",
            prompt: &self.query_prompt,
            messages: self.query_prompt.filled(&[("examples", &self.examples), ("document", context.document(document))]),
            sources: json!({ "document": context.document_id(document) }),
            sample: 0,
        }
    }

    fn score_question(&self, context: &Context<'_>, which: usize, seed: u32, (task, query): (&str, &str), shown: &[u32]) -> Question<'_> {
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
