//! Hard negatives for queries, from the query alone or with its positives, with drawn attributes and the model's own reflection
//! (SyNeg, arXiv 2412.17250; Don't Retrieve, Generate, arXiv 2504.21015).

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Estimate, Outcome, ids, made_by, with};
use crate::{
    answers,
    prompt::Prompt,
    prompts::Attributes,
    quality::{Quality, Seen},
    session::{Fault, Question},
};

/// Positives that a prompt shows at most.
const POSITIVES: usize = 3;

/// The job.
#[derive(Debug)]
pub struct Negatives {
    /// Queries with the positives that the prompt shows; empty lists write from the query alone.
    pub queries: Vec<(u32, Vec<u32>)>,
    /// Negatives for each.
    pub per_query: u32,
    /// What is asked.
    pub prompt: Prompt,
    /// What is drawn for each query.
    pub attributes: Attributes,
    /// What a negative must be.
    pub quality: Quality,
}

#[derive(Deserialize)]
struct Written {
    negatives: Vec<Negative>,
}

#[derive(Deserialize)]
struct Negative {
    text: String,
    /// What the model says on reflection: that its text answers the query after all.
    #[serde(default)]
    answers: bool,
}

/// The queries of a split, each with its first positives if they are to be shown.
pub fn queries_of(collection: &corpus::Collection, split: &corpus::Judgments, with_positives: bool) -> Vec<(u32, Vec<u32>)> {
    let long_enough = |document: &u32| !collection.documents.text(*document).trim().is_empty();
    let shown = |query| if with_positives { split.positives(query).filter(long_enough).take(POSITIVES).collect() } else { Vec::new() };
    split.queries().map(|query| (query, shown(query))).collect()
}

impl Negatives {
    /// What it costs.
    pub fn estimate(&self, context: &Context<'_>) -> Estimate {
        let mut estimate = Estimate::default();
        self.queries.iter().for_each(|unit| estimate.add(context, &self.question(context, unit)));
        estimate
    }

    /// Rows `{"qid", "query", "pos": [id], "neg_synth": [{"text", "attr"}], "model", "prompt", "repair_prompt"?}`; `pos` are the positives that the model was shown.
    pub fn run(&self, context: &Context<'_>) -> Outcome {
        let mut driven = context.each("negatives", &self.queries, |unit| {
            context.ask(&self.question(context, unit), |answer| {
                let written: Written = answers::json(&answer.text)?;
                if written.negatives.is_empty() { Err(Fault::Form("it has no negatives".into())) } else { Ok(written.negatives) }
            })
        });
        let source = |at: usize| self.sources(context, &self.queries[at]);
        let mut outcome = Outcome::of(&mut driven, "negatives", source);
        let mut seen = Seen::with(context.collection.documents.texts().iter());
        let (mut answered, mut short) = (0, 0);
        for (unit, judged) in self.queries.iter().zip(driven.results) {
            let Some(judged) = judged else { continue };
            outcome.reject_all(judged.unused);
            let Some((negatives, answer)) = judged.accepted else { continue };
            let what_for = context.query_id(unit.0);
            let attributes = self.attributes.draw(context.seed, what_for);
            let attribute = attributes.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("; ");
            let mut kept = Vec::new();
            for (at, negative) in negatives.into_iter().enumerate() {
                let fault = if at < self.per_query as usize {
                    self.fault(context, unit, &negative, answer.logprob, &mut seen)
                } else {
                    Some("more than were asked for".into())
                };
                match fault {
                    None => kept.push(json!({ "text": negative.text.trim(), "attr": attribute })),
                    Some(reason) => outcome.reject_part(reason, &answer, negative.text),
                }
            }
            answered += 1;
            short += usize::from(kept.len() < self.per_query as usize);
            if !kept.is_empty() {
                let row = json!({
                    "qid": what_for, "query": context.collection.queries.text(unit.0), "pos": ids(context, &unit.1), "neg_synth": kept,
                });
                outcome.rows.push(with(row, made_by(&answer, &[])));
            }
        }
        if short > 0 {
            let wanted = self.per_query;
            outcome.notes.push(format!(
                "{short} of {answered} queries have fewer than the {wanted} negatives asked for; rejected.jsonl has what was left out"
            ));
        }
        outcome
    }

    fn fault(
        &self,
        context: &Context<'_>,
        unit: &(u32, Vec<u32>),
        negative: &Negative,
        logprob: Option<f64>,
        seen: &mut Seen,
    ) -> Option<String> {
        if negative.answers {
            return Some("on reflection the model finds that it answers the query".into());
        }
        let positives: Vec<&str> = unit.1.iter().map(|document| context.document(*document)).collect();
        let sources = [&positives[..], &[context.collection.queries.text(unit.0), &self.prompt.text]].concat();
        let holds_none = || positives.iter().try_for_each(|positive| self.quality.holds_not(&negative.text, positive));
        match self.quality.check(&negative.text, &sources, logprob).and_then(|()| holds_none()) {
            Err(Fault::Quality(reason) | Fault::Form(reason)) => Some(reason),
            Ok(()) if !seen.first(&negative.text) => Some("duplicate: another negative or a document says the same".into()),
            Ok(()) => None,
        }
    }

    fn sources(&self, context: &Context<'_>, (query, positives): &(u32, Vec<u32>)) -> Value {
        let mut sources = json!({ "query": context.query_id(*query) });
        if !positives.is_empty() {
            sources["positives"] = ids(context, positives).into();
        }
        sources
    }

    fn question(&self, context: &Context<'_>, unit: &(u32, Vec<u32>)) -> Question<'_> {
        let (query, positives) = unit;
        let id = context.query_id(*query);
        let (count, shown) = (self.per_query.to_string(), context.numbered(positives));
        let mut values = self.attributes.draw(context.seed, id);
        values.extend([("query", context.collection.queries.text(*query)), ("positives", shown.as_str()), ("count", count.as_str())]);
        Question {
            stage: "negatives",
            prompt: &self.prompt,
            messages: self.prompt.filled(&values),
            sources: self.sources(context, unit),
            sample: 0,
        }
    }
}
