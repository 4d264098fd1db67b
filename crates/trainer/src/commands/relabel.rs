//! `trainer relabel`: a language model finds the relevant ones among mined negatives.

use anyhow::{Context, Result};
use llm::jobs::relabel::{Method, Relabel};
use llm::prompts;
use serde_json::json;

use super::language_model::{self as shared, Desk, file};
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
    let model = shared::model(own, &own.model, &own.endpoint, &own.key_variable, 0.0, false)?;
    let strong = match &args.strong_model {
        Some(name) => {
            let endpoint = args.strong_endpoint.as_deref().unwrap_or(&own.endpoint);
            let variable = args.strong_key_variable.as_deref().unwrap_or(&own.key_variable);
            let strong = shared::model(own, name, endpoint, variable, 0.0, false)?;
            if args.strong_key_variable.is_none() && !strong.endpoint.same_host(&model.endpoint) {
                return Err(Usage::new(
                    "--strong-key-variable is missing: --strong-endpoint is another host, and the key of --endpoint is not sent there; name the \
                     environment variable with its key (unset where it needs none)",
                )
                .into());
            }
            Some(strong)
        }
        None => None,
    };
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
