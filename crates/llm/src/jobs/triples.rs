//! Query, positive and hard negative, all written: first tasks, then examples of each (E5-mistral, arXiv 2401.00368).

use serde::Deserialize;
use serde_json::json;

use super::{Context, Estimate, Outcome, Rejected, made_by, with};
use crate::{
    answers,
    journal::Answer,
    prompt::Prompt,
    prompts::Attributes,
    quality::{Quality, Seen},
    session::{Fault, Question},
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

/// Tasks that differ.
#[derive(Default)]
struct Plan {
    tasks: Vec<String>,
    seen: Seen,
}

impl Plan {
    /// Takes up what is new, and gives back what is not.
    fn add(&mut self, tasks: Vec<String>) -> Vec<String> {
        let mut again = Vec::new();
        for task in tasks.into_iter().filter(|task| !task.trim().is_empty()) {
            let place = if self.seen.first(&task) { &mut self.tasks } else { &mut again };
            place.push(task.trim().to_owned());
        }
        again
    }
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
        let (mut plan, mut open) = (Plan::default(), 0);
        for round in 0..self.rounds() {
            let question = self.task_question(round);
            estimate.add(context, &question);
            match context.known(&question, Self::tasks_of) {
                Some(judged) => judged.accepted.into_iter().for_each(|(tasks, _)| drop(plan.add(tasks))),
                None => open += self.at_once(),
            }
        }
        plan.tasks.truncate(self.tasks);
        let more = open.min(self.tasks - plan.tasks.len());
        self.units(&plan.tasks).iter().for_each(|unit| estimate.add(context, &self.question(context, unit)));
        let like = self.question(context, &("word ".repeat(20), 0));
        estimate.add_like(context, context.model, &like, more as u64 * u64::from(self.per_task));
        estimate
    }

    /// Rows `{"query", "positive", "negative", "task", "model", "prompt", "repair_prompt"?, "task_prompt"}`.
    pub fn run(&self, context: &Context<'_>) -> Outcome {
        let rounds: Vec<u32> = (0..self.rounds()).collect();
        let mut driven = context.each("tasks", &rounds, |round| context.ask(&self.task_question(*round), Self::tasks_of));
        let mut planned = Outcome::of(&mut driven, "tasks", |at| json!({ "round": at + 1 }));
        let mut plan = Plan::default();
        for judged in driven.results.into_iter().flatten() {
            planned.reject_all(judged.unused);
            let Some((tasks, answer)) = judged.accepted else { continue };
            for task in plan.add(tasks) {
                planned.reject_part("duplicate: another task says the same", &answer, task);
            }
        }
        plan.tasks.truncate(self.tasks);
        planned.then(self.write(context, &plan.tasks))
    }

    fn tasks_of(answer: &Answer) -> Result<Vec<String>, Fault> {
        let tasks: Vec<String> = answers::json(&answer.text)?;
        if tasks.iter().all(|task| task.trim().is_empty()) { Err(Fault::Form("it names no task".into())) } else { Ok(tasks) }
    }

    /// No part may repeat another one or the prompt.
    fn check(&self, Triple { query, positive, negative }: &Triple, answer: &Answer) -> Result<(), Fault> {
        let prompt = self.prompt.text.as_str();
        self.queries.check(query, &[positive, negative, prompt], answer.logprob)?;
        self.passages.check(positive, &[query, prompt], answer.logprob)?;
        self.passages.check(negative, &[positive, query, prompt], answer.logprob)?;
        self.passages.holds_not(negative, positive)
    }

    fn units(&self, tasks: &[String]) -> Vec<(String, u32)> {
        tasks.iter().flat_map(|task| (0..self.per_task).map(|sample| (task.clone(), sample))).collect()
    }

    fn write(&self, context: &Context<'_>, tasks: &[String]) -> Outcome {
        let units = self.units(tasks);
        let mut driven = context.each("triples", &units, |unit| {
            context.ask(&self.question(context, unit), |answer| {
                let triple: Triple = answers::json(&answer.text)?;
                self.check(&triple, answer)?;
                Ok(triple)
            })
        });
        let source = |at: usize| json!({ "task": units[at].0 });
        let mut outcome = Outcome::of(&mut driven, "triples", source);
        let mut seen = Seen::default();
        let planned_with = ("task_prompt", json!(self.task_prompt.version));
        for (unit, judged) in units.iter().zip(driven.results) {
            let Some(judged) = judged else { continue };
            outcome.reject_all(judged.unused);
            match judged.accepted {
                Some((value, answer)) if seen.first(&value.query) => {
                    let row = json!({ "query": value.query.trim(), "positive": value.positive.trim(), "negative": value.negative.trim() });
                    outcome.rows.push(with(row, made_by(&answer, &[]).into_iter().chain([("task", json!(unit.0)), planned_with.clone()])));
                }
                Some((_, answer)) => outcome.reject("duplicate: another triple has this query", &answer),
                None => {}
            }
        }
        if outcome.rows.is_empty() && outcome.stop.is_none() && outcome.rejected.is_empty() {
            outcome.rejected.push(Rejected::without_answer("triples", json!({}), "no task came of the first step".into()));
        }
        outcome
    }

    fn rounds(&self) -> u32 {
        self.tasks.div_ceil(AT_ONCE) as u32
    }

    /// Tasks that a round asks for; of the last round more than are lacking, as some will say the same.
    fn at_once(&self) -> usize {
        AT_ONCE.min(self.tasks)
    }

    fn task_question(&self, round: u32) -> Question<'_> {
        let (count, number, rounds) = (self.at_once().to_string(), (round + 1).to_string(), self.rounds().to_string());
        Question {
            stage: "tasks",
            prompt: &self.task_prompt,
            messages: self.task_prompt.filled(&[("topic", &self.topic), ("count", &count), ("round", &number), ("rounds", &rounds)]),
            sources: json!({ "topic": self.topic, "round": round + 1 }),
            sample: round,
        }
    }

    fn question(&self, context: &Context<'_>, (task, sample): &(String, u32)) -> Question<'_> {
        let what_for = format!("{task}:{sample}");
        let mut values = self.attributes.draw(context.seed, &what_for);
        // Under a name of its own: the first numbers drawn for the attributes would decide it too.
        let language = context.drawn(&self.languages, &format!("language:{what_for}"));
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
