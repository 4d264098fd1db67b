//! Queries for documents (InPars, arXiv 2202.05144; Promptagator, arXiv 2209.11755; GPL, arXiv 2112.07577).

use serde_json::json;

use super::{Context, Estimate, Outcome, made_by, with};
use crate::{
    answers,
    prompt::Prompt,
    quality::{Quality, Seen},
    session::{Fault, Question},
};

/// The job.
#[derive(Debug)]
pub struct Queries {
    /// Documents to write for.
    pub documents: Vec<u32>,
    /// Queries for each.
    pub per_document: u32,
    /// What is asked, with examples of the task or without.
    pub prompt: Prompt,
    /// What a query must be.
    pub quality: Quality,
}

impl Queries {
    /// What it costs.
    pub fn estimate(&self, context: &Context<'_>) -> Estimate {
        let mut estimate = Estimate::default();
        self.units().iter().for_each(|unit| estimate.add(context, &self.question(context, *unit)));
        estimate
    }

    /// Rows `{"_id", "text", "positive": [id], "source", "model", "prompt", "repair_prompt"?, "logprob"?}`. A query that another row or the collection has
    /// already is left out.
    pub fn run(&self, context: &Context<'_>) -> Outcome {
        let units = self.units();
        let mut driven = context.each("queries", &units, |unit| {
            context.ask(&self.question(context, *unit), |answer| {
                // A line that was cut off looks like a whole one.
                if answer.cut {
                    return Err(Fault::Form("it was cut off".into()));
                }
                let text = answers::line(&answer.text)?;
                // Small models repeat what they are told.
                self.quality.check(&text, &[context.document(unit.0), &self.prompt.text, self.prompt.examples()], answer.logprob)?;
                Ok(text)
            })
        });
        let source = |at: usize| json!({ "document": context.document_id(units[at].0) });
        let mut outcome = Outcome::of(&mut driven, "queries", source);
        let mut seen = Seen::with(context.collection.queries.texts().iter());
        let mut unlikely = 0;
        for (unit, judged) in units.iter().zip(driven.results) {
            let Some(judged) = judged else { continue };
            outcome.reject_all(judged.unused);
            match judged.accepted {
                Some((text, answer)) if seen.first(&text) => {
                    let id = context.document_id(unit.0);
                    let row = json!({ "_id": format!("written:{id}:{}", unit.1), "text": text, "positive": [id], "source": id });
                    unlikely += usize::from(answer.logprob.is_none());
                    let logprob = answer.logprob.map(|it| ("logprob", json!(it)));
                    outcome.rows.push(with(row, made_by(&answer, &[]).into_iter().chain(logprob)));
                }
                Some((_, answer)) => outcome.reject("duplicate: another query says the same", &answer),
                None => {}
            }
        }
        if context.model.sampling.logprobs && unlikely > 0 {
            let rows = outcome.rows.len();
            outcome.notes.push(format!(
                "the endpoint gave no log-probability for {unlikely} of {rows} rows: they cannot be chosen by it (data.queries_keep, --min-logprob)"
            ));
        }
        outcome
    }

    fn units(&self) -> Vec<(u32, u32)> {
        self.documents.iter().flat_map(|document| (0..self.per_document).map(move |sample| (*document, sample))).collect()
    }

    fn question(&self, context: &Context<'_>, (document, sample): (u32, u32)) -> Question<'_> {
        Question {
            stage: "queries",
            prompt: &self.prompt,
            messages: self.prompt.filled(&[("examples", self.prompt.examples()), ("document", context.document(document))]),
            sources: json!({ "document": context.document_id(document) }),
            sample,
        }
    }
}
