//! Query, positive and hard negative, all written: first tasks, then examples of each (E5-mistral, arXiv 2401.00368).

use serde::Deserialize;
use serde_json::json;

use super::{Context, Estimate, Outcome, Rejected, made_by, with};
use crate::{
    answers,
    prompt::Prompt,
    prompts::Attributes,
    quality::{Quality, Seen},
    session::{Fault, Judged, Question},
};

/// Tasks that one request asks for.
const AT_ONCE: usize = 20;

/// The job.
#[derive(Debug)]
pub struct Triples {
    /// Tasks.
    pub tasks: usize,
    /// Triples for each.
    pub per_task: u32,
    /// What they are about, in words.
    pub topic: String,
    /// Languages, one of which is drawn for each triple.
    pub languages: Vec<String>,
    /// What is asked first.
    pub task_prompt: Prompt,
    /// What is asked then.
    pub prompt: Prompt,
    /// What is drawn for each triple.
    pub attributes: Attributes,
    /// What queries must be.
    pub queries: Quality,
    /// What the two documents must be.
    pub passages: Quality,
}

#[derive(Deserialize)]
struct Triple {
    query: String,
    positive: String,
    negative: String,
}

impl Triples {
    /// What it costs; triples as if each task were a sentence of 20 words.
    pub fn estimate(&self, context: &Context<'_>) -> Estimate {
        let mut estimate = Estimate::default();
        (0..self.rounds()).for_each(|round| estimate.add(context, &self.task_question(round)));
        let task = "word ".repeat(20);
        estimate.add_like(context, &self.question(context, &(task, 0)), self.tasks as u64 * u64::from(self.per_task));
        estimate
    }

    /// Rows `{"query", "positive", "negative", "task", "model", "prompt"}`.
    pub fn run(&self, context: &Context<'_>) -> Outcome {
        let rounds: Vec<u32> = (0..self.rounds()).collect();
        let mut driven = context.each("tasks", &rounds, |round| {
            context.ask(&self.task_question(*round), |answer| {
                let tasks: Vec<String> = answers::json(&answer.text)?;
                if tasks.iter().all(|task| task.trim().is_empty()) { Err(Fault::Form("it names no task".into())) } else { Ok(tasks) }
            })
        });
        let mut planned = Outcome::of(&mut driven, "tasks", |at| json!({ "round": at }));
        let (mut tasks, mut seen) = (Vec::new(), Seen::default());
        for judged in driven.results.into_iter().flatten() {
            match judged {
                Judged::Accepted { value, .. } => {
                    tasks.extend(
                        value.into_iter().filter(|task| !task.trim().is_empty() && seen.first(task)).map(|task| task.trim().to_owned()),
                    );
                }
                Judged::Rejected { reason, answer } => planned.reject(reason, &answer),
            }
        }
        tasks.truncate(self.tasks);
        planned.then(self.write(context, &tasks))
    }

    fn write(&self, context: &Context<'_>, tasks: &[String]) -> Outcome {
        let units: Vec<(String, u32)> = tasks.iter().flat_map(|task| (0..self.per_task).map(|sample| (task.clone(), sample))).collect();
        let mut driven = context.each("triples", &units, |unit| {
            context.ask(&self.question(context, unit), |answer| {
                let triple: Triple = answers::json(&answer.text)?;
                self.queries.check(&triple.query, &[], answer.logprob)?;
                self.passages.check(&triple.positive, &[], answer.logprob)?;
                self.passages.check(&triple.negative, &[&triple.positive], answer.logprob)?;
                Ok(triple)
            })
        });
        let source = |at: usize| json!({ "task": units[at].0 });
        let mut outcome = Outcome::of(&mut driven, "triples", source);
        let mut seen = Seen::default();
        for (unit, judged) in units.iter().zip(driven.results) {
            match judged {
                Some(Judged::Accepted { value, answer }) if seen.first(&value.query) => {
                    let row = json!({ "query": value.query.trim(), "positive": value.positive.trim(), "negative": value.negative.trim() });
                    outcome.rows.push(with(row, made_by(&answer).into_iter().chain([("task", json!(unit.0))])));
                }
                Some(Judged::Accepted { answer, .. }) => outcome.reject("duplicate: another triple has this query".into(), &answer),
                Some(Judged::Rejected { reason, answer }) => outcome.reject(reason, &answer),
                None => {}
            }
        }
        if outcome.rows.is_empty() && outcome.stop.is_none() && outcome.rejected.is_empty() {
            let (sources, reason) = (json!({}), "no task came of the first step".to_owned());
            outcome.rejected.push(Rejected { stage: "triples".into(), sources, reason, answer: String::new() });
        }
        outcome
    }

    fn rounds(&self) -> u32 {
        self.tasks.div_ceil(AT_ONCE) as u32
    }

    fn task_question(&self, round: u32) -> Question<'_> {
        let count = AT_ONCE.min(self.tasks).to_string();
        Question {
            stage: "tasks",
            prompt: &self.task_prompt,
            messages: self.task_prompt.filled(&[("topic", &self.topic), ("count", &count)]),
            sources: json!({ "topic": self.topic }),
            sample: round,
        }
    }

    fn question(&self, context: &Context<'_>, (task, sample): &(String, u32)) -> Question<'_> {
        let what_for = format!("{task}:{sample}");
        let mut values = self.attributes.draw(context.seed, &what_for);
        let language = context.drawn(&self.languages, &what_for);
        values.extend([("task", task.as_str()), ("language", language)]);
        Question {
            stage: "triples",
            prompt: &self.prompt,
            messages: self.prompt.filled(&values),
            sources: json!({ "task": task }),
            sample: *sample,
        }
    }
}
