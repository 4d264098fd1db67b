//! `trainer relabel`: a language model finds the relevant ones among mined negatives.

use anyhow::{Context, Result};
use llm::jobs::relabel::{Method, Relabel};
use llm::{Model, prompts};
use serde_json::json;

use super::language_model::{self as shared, Asked, Desk, file};
use crate::args::{RelabelArgs, RelabelMethod};
use crate::checkpoint::digest;
use crate::data;
use crate::errors::{OrUsage, Usage};

pub(super) fn run(args: &RelabelArgs) -> Result<()> {
    let own = &args.language_model;
    if args.depth == 0 || args.passages == 0 {
        return Err(Usage::new("--depth and --passages are at least 1").into());
    }
    if args.method == RelabelMethod::Ranking && args.strong_model.is_some() {
        return Err(Usage::new("--strong-model: only verdicts are looked at again; rankings have one model").into());
    }
    let (model, strong) = models(args)?;
    let collection = data::open(&args.data)?;
    let lists = match (&args.negatives, &collection.negatives) {
        (Some(path), _) => corpus::read_lists(path, &collection).or_usage()?,
        (None, Some(lists)) => lists.clone(),
        (None, None) => {
            return Err(Usage::new("--negatives is missing: the collection has none of its own; `trainer mine` writes some").into());
        }
    };
    let split = collection.split(&args.split).or_usage()?;
    let negatives = args.negatives.as_deref().map(std::fs::read).transpose().context("reading the negatives")?.map(|bytes| digest(&bytes));
    let changing = json!({ "split": args.split, "depth": args.depth, "passages": args.passages, "negatives": negatives });
    let mut identity = shared::identity("relabel", &collection, &model, own, changing);
    identity["strong_model"] = json!(args.strong_model);
    let mut settings = shared::settings(&model, own);
    settings["negatives"] = json!(args.negatives);
    if let Some(strong) = &strong {
        settings["strong_endpoint"] = json!(strong.endpoint.url());
        settings["strong_sampling"] = json!(strong.sampling);
    }
    let (method, used) = match args.method {
        RelabelMethod::Verdict => {
            let files = shared::prompts(own, &["verdict"])?;
            let prompt = prompts::relabel(file(&files, "verdict")).or_usage()?;
            (Method::Verdict { prompt: prompt.clone(), strong }, vec![prompt])
        }
        RelabelMethod::Ranking => {
            let files = shared::prompts(own, &["answers", "ranking"])?;
            let answers = prompts::answers(file(&files, "answers")).or_usage()?;
            let ranking = prompts::ranking(file(&files, "ranking")).or_usage()?;
            let used = vec![answers.clone(), ranking.clone()];
            (Method::Ranking { answers, ranking }, used)
        }
    };
    let job = Relabel::new(&lists, split, args.depth, args.passages, method);
    if job.is_empty() {
        return Err(Usage::new(format!("no query of `{}` has a listed negative: is it the right split?", args.split)).into());
    }
    let desk = Desk::open(own, identity, &settings, &used.iter().collect::<Vec<_>>())?;
    desk.work(
        "decisions.jsonl",
        None,
        |desk| Ok(job.estimate(&desk.context(&model, &collection))),
        |desk| Ok(job.run(&desk.context(&model, &collection))),
    )
}

/// The model that is asked about everything, and the one that looks again, if there is one: how that is asked, where its own flags do not say it, the
/// shared ones do.
fn models(args: &RelabelArgs) -> Result<(Model, Option<Model>)> {
    let own = &args.language_model;
    let strong_body = ("--strong-body", args.strong_body.as_deref());
    let first = Asked { other_body: strong_body, ..Asked::first(own, 0.0, false) };
    let model = shared::model(own, &first)?;
    let Some(name) = &args.strong_model else { return Ok((model, None)) };
    let strong = Asked {
        name,
        endpoint: args.strong_endpoint.as_deref().unwrap_or(first.endpoint),
        key_variable: args.strong_key_variable.as_deref().unwrap_or(first.key_variable),
        temperature: args.strong_temperature.map_or(first.temperature, |temperature| ("--strong-temperature", temperature)),
        body: if args.strong_body.is_some() { strong_body } else { first.body },
        other_body: first.body,
        logprobs: false,
    };
    let strong = shared::model(own, &strong)?;
    if args.strong_key_variable.is_none() && !strong.endpoint.same_host(&model.endpoint) {
        return Err(Usage::new(
            "--strong-key-variable is missing: --strong-endpoint is another host, and the key of --endpoint is not sent there; name the \
             environment variable with its key (unset where it needs none)",
        )
        .into());
    }
    Ok((model, Some(strong)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn models_of(flags: &[&str]) -> Result<(Model, Option<Model>)> {
        let mut arguments =
            vec!["trainer", "relabel", "--data", "d", "--output", "o", "--endpoint", "http://localhost:1/v1", "--model", "m"];
        arguments.extend(["--key-variable", "DREDGE_NO_SUCH_VARIABLE"]);
        arguments.extend(flags);
        match Cli::try_parse_from(arguments).unwrap().command {
            Some(Command::Relabel(args)) => models(&args),
            _ => panic!("it is relabel"),
        }
    }

    /// Name, temperature and body of both models.
    fn asked(flags: &[&str]) -> [String; 2] {
        let (model, strong) = models_of(flags).unwrap();
        [model, strong.unwrap()].map(|it| format!("{} {} {}", it.name, it.sampling.temperature, json!(it.sampling.body)))
    }

    #[test]
    fn the_strong_model_is_asked_as_its_own_flags_say_and_else_as_the_first() {
        let shared = ["--strong-model", "s", "--temperature", "0.5", "--body", r#"{"top_p":0.9}"#];
        let with = |more: &[&str]| asked(&[&shared[..], more].concat());
        let first = r#"m 0.5 {"top_p":0.9}"#;
        assert_eq!(asked(&["--strong-model", "s"]), ["m 0 {}", "s 0 {}"]);
        assert_eq!(asked(&["--strong-model", "s", "--strong-temperature", "1"]), ["m 0 {}", "s 1 {}"]);
        assert_eq!(with(&[]), [first, r#"s 0.5 {"top_p":0.9}"#]);
        assert_eq!(with(&["--strong-temperature", "0"]), [first, r#"s 0 {"top_p":0.9}"#]);
        // In the place of the shared fields, not beside them.
        assert_eq!(with(&["--strong-body", r#"{"reasoning_effort":"high"}"#]), [first, r#"s 0.5 {"reasoning_effort":"high"}"#]);
        assert_eq!(with(&["--strong-body", "{}", "--strong-temperature", "1.5"]), [first, "s 1.5 {}"]);
        // The longest answer is the body's too.
        let (model, strong) = models_of(&["--strong-model", "s", "--strong-body", r#"{"max_tokens":4000}"#]).unwrap();
        assert_eq!((model.sampling.longest_answer(), strong.unwrap().sampling.longest_answer()), (1024, 4000));
        assert!(models_of(&[]).unwrap().1.is_none());
    }

    #[test]
    fn a_wrong_setting_names_the_flag_that_it_came_from() {
        for (flags, part) in [
            (["--strong-temperature", "3"], "--strong-temperature 3: expected 0 to 2"),
            (["--temperature", "3"], "--temperature 3: expected 0 to 2"),
            (["--strong-body", "[1]"], "--strong-body [1]: "),
            (["--body", "[1]"], "--body [1]: "),
            (["--strong-body", r#"{"model":"x"}"#], "--strong-body: the field `model`"),
            (["--body", r#"{"model":"x"}"#], "--body: the field `model`"),
        ] {
            let message = models_of(&[&["--strong-model", "s"][..], &flags].concat()).unwrap_err().to_string();
            assert!(message.starts_with(part) && message.lines().count() == 1, "{message}");
        }
    }
}
