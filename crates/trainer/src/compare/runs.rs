//! Trains what a comparison still lacks: a finished run is kept, an interrupted one resumed, a missing one started.
//!
//! Seed by seed, so that a comparison stopped half-way has whole seeds. A run that fails is noted and the next one tried; only Ctrl-C,
//! and runs that could not be compared, end the loop.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};

use super::arms::Arm;
use super::figures::Start;
use super::request::{Budget, Request};
use crate::config::{self, Config};
use crate::errors::{Interrupted, Usage, chain};
use crate::interrupt;
use crate::output;
use crate::runfolder::{LOCK, RunFolder, lock};
use crate::train::Session;

/// One arm with one seed, and what became of it.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Position among the request's arms.
    pub(crate) arm: usize,
    pub(crate) seed: u64,
    pub(crate) folder: PathBuf,
    /// One line; `None` for a finished run.
    pub(crate) failure: Option<String>,
}

/// Brings every run of the request to its end, inside `folder`.
///
/// # Errors
/// When interrupted, when the first recipe cannot start and the budget is its, and when recipes do not start alike for a seed.
pub(crate) fn run_all(request: &Request, folder: &Path) -> Result<Vec<Attempt>> {
    let arms = request.arms()?;
    let stop = Stop::listen()?;
    let all = arms.len() as u64 * request.seeds;
    let (mut attempts, mut steps) = (Vec::new(), None);
    for seed in 1..=request.seeds {
        let mut first: Option<(&str, Start)> = None;
        for (number, arm) in arms.iter().enumerate() {
            let run = folder.join(format!("{}-seed{seed}", arm.folder));
            output::note(&format!("run {} of {all}: {}, seed {seed}", attempts.len() + 1, arm.name));
            let config = request.config(arm, seed, steps, &run)?;
            unchanged(&config, &run)?;
            let outcome = finish(config, arm, &run, &stop);
            if request.budget.is_none() && steps.is_none() {
                steps = Some(resolved_steps(&run, &arm.name, &outcome)?);
            }
            let failure = match outcome {
                Ok(()) => {
                    let start = Start::read(&run)?;
                    match &first {
                        Some((baseline, expected)) => alike(seed, (baseline, expected), (&arm.name, &start), request.budget)?,
                        None => first = Some((&arm.name, start)),
                    }
                    None
                }
                Err(error) => match error.downcast_ref::<Interrupted>() {
                    Some(Interrupted { step, steps, .. }) => bail!(
                        "interrupted in {}, seed {seed}, at step {step} of {steps}; a checkpoint is written, and the same command goes on",
                        arm.name
                    ),
                    None => Some(chain(&error)),
                },
            };
            if let Some(failure) = &failure {
                output::note(&format!("{}, seed {seed}, failed: {failure}", arm.name));
            }
            attempts.push(Attempt { arm: number, seed, folder: run, failure });
            if stop.asked() && (attempts.len() as u64) < all {
                bail!("interrupted after {} of {all} runs; the same command goes on", attempts.len());
            }
        }
    }
    Ok(attempts)
}

/// A run that is there already must be what is asked for: recipes change from one version of the program to the next, and files are edited.
fn unchanged(asked: &Config, run: &Path) -> Result<()> {
    let path = run.join("config.toml");
    if !path.is_file() {
        return Ok(());
    }
    let found = config::merge(&path.display().to_string(), &config::read(&path)?, &[])?;
    let found = toml::Table::try_from(&found).context("describing a configuration")?;
    let open = asked.open_temperature;
    let mut asked = toml::Table::try_from(asked).context("describing a configuration")?;
    // Paths are as seen from where the comparison was started.
    asked.remove("output");
    if let Some(toml::Value::Table(loss)) = asked.get_mut("loss").filter(|_| open) {
        loss.remove("temperature");
    }
    match difference(&asked, &found) {
        None => Ok(()),
        Some((key, asked, found)) => Err(Usage::new(format!(
            "{}: {key} = {found}, and {asked} is asked for: the recipe or the file has changed since; compare anew in another folder",
            path.display()
        ))
        .into()),
    }
}

/// The first key that has another value in `found`, with both. What only the run could decide is in `found` alone.
fn difference(asked: &toml::Table, found: &toml::Table) -> Option<(String, String, String)> {
    asked.iter().find_map(|(key, asked)| match (asked, found.get(key)) {
        (toml::Value::Table(asked), Some(toml::Value::Table(found))) => {
            difference(asked, found).map(|(inner, asked, found)| (format!("{key}.{inner}"), asked, found))
        }
        (asked, Some(found)) if asked == found => None,
        (asked, found) => Some((key.clone(), asked.to_string(), found.map_or_else(|| "nothing".to_owned(), ToString::to_string))),
    })
}

/// The run in `folder`, finished.
fn finish(config: Config, arm: &Arm, folder: &Path, stop: &Stop) -> Result<()> {
    if folder.join("evaluation").join("metrics.json").is_file() {
        return Ok(());
    }
    // burn and its backends panic where they run out of memory; the other recipes need not suffer for it.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let session = if folder.join("config.toml").is_file() {
            Session::resume(RunFolder::open(folder.to_owned())?, None)?
        } else {
            clear(folder)?;
            Session::start(config, &arm.folder)?
        };
        stop.leave_to_the_run(|| session.run().map(|_| ()))
    }));
    outcome.unwrap_or_else(|panic| Err(anyhow!("the run panicked: {}", message(panic.as_ref()))))
}

/// A run that was killed before its configuration was written left empty folders, in which no run starts.
fn clear(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    // Empty parts may be those of a run that is just beginning.
    let _lock = lock(folder)?;
    for file in [".config.toml.partial", LOCK] {
        let _ = fs::remove_file(folder.join(file));
    }
    for part in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        // Only empty folders can be removed this way: what else lies here stays, and the start then says so.
        let _ = fs::remove_dir(part.with_context(|| format!("reading {}", folder.display()))?.path());
    }
    Ok(())
}

/// The length of the first run, which all others get.
fn resolved_steps(run: &Path, recipe: &str, outcome: &Result<()>) -> Result<usize> {
    let path = run.join("config.toml");
    if let (Err(error), false) = (outcome, path.is_file()) {
        let message = format!("the budget is the steps of {recipe}, which did not start: {}", chain(error));
        return Err(if error.is::<Usage>() { Usage::new(message).into() } else { anyhow!(message) });
    }
    let config = config::merge(&path.display().to_string(), &config::read(&path)?, &[])?;
    config.train.steps.with_context(|| format!("{} has no train.steps", path.display()))
}

/// Runs of one seed can be compared when they start from the same weights, on the same data, for the same number of steps.
fn alike(seed: u64, (baseline, expected): (&str, &Start), (recipe, start): (&str, &Start), budget: Option<Budget>) -> Result<()> {
    let short = |text: &str| text.chars().take(12).collect::<String>();
    let refuse = |what: &str, ours: String, theirs: String, way_out: &str| {
        bail!("seed {seed}: {baseline} and {recipe} do not start alike: {what} {ours} and {theirs}. {way_out}")
    };
    if expected.model_fingerprint != start.model_fingerprint {
        let (ours, theirs) = (short(&expected.model_fingerprint), short(&start.model_fingerprint));
        return refuse("start weights", ours, theirs, "Give both the same encoder and [encoder] settings");
    }
    if expected.collection_fingerprint != start.collection_fingerprint {
        let (ours, theirs) = (short(&expected.collection_fingerprint), short(&start.collection_fingerprint));
        return refuse("collection", ours, theirs, "The data has changed in between: compare anew in another folder");
    }
    if expected.steps != start.steps && !matches!(budget, Some(Budget::Seconds(_))) {
        return refuse("steps", expected.steps.to_string(), start.steps.to_string(), "Compare anew in another folder");
    }
    Ok(())
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned()).replace('\n', "; ")
}

/// Ctrl-C between runs. A run listens for itself and writes a checkpoint; but once anything has listened, the system no longer ends the
/// process, so the time in which models and data are opened needs a listener too.
struct Stop {
    asked: Arc<AtomicBool>,
    in_run: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

impl Stop {
    fn listen() -> Result<Self> {
        let runtime = interrupt::runtime()?;
        let (asked, in_run) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (seen, busy) = (Arc::clone(&asked), Arc::clone(&in_run));
        runtime.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                seen.store(true, Ordering::Relaxed);
                if !busy.load(Ordering::Relaxed) {
                    output::note("interrupted between two runs; the same command goes on");
                    std::process::exit(1);
                }
            }
        });
        Ok(Self { asked, in_run, _runtime: runtime })
    }

    fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    fn leave_to_the_run<T>(&self, run: impl FnOnce() -> T) -> T {
        self.in_run.store(true, Ordering::Relaxed);
        let outcome = run();
        self.in_run.store(false, Ordering::Relaxed);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(weights: &str, collection: &str, steps: u64) -> Start {
        Start { model_fingerprint: weights.into(), collection_fingerprint: collection.into(), steps, ..Start::default() }
    }

    #[test]
    fn runs_that_do_not_start_alike_are_refused() {
        let expected = start("aaaaaaaaaaaaaaaa", "c", 20);
        let check = |other: &Start, budget| alike(2, ("ance", &expected), ("random", other), budget);
        check(&expected, None).unwrap();
        let error = check(&start("bbbbbbbbbbbbbbbb", "c", 20), None).unwrap_err().to_string();
        for part in ["seed 2", "ance", "random", "start weights aaaaaaaaaaaa and bbbbbbbbbbbb"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(check(&start("aaaaaaaaaaaaaaaa", "d", 20), None).unwrap_err().to_string().contains("collection"));
        let longer = start("aaaaaaaaaaaaaaaa", "c", 30);
        assert!(check(&longer, Some(Budget::Steps(20))).unwrap_err().to_string().contains("steps 20 and 30"));
        check(&longer, Some(Budget::Seconds(3.0))).unwrap();
    }

    #[test]
    fn a_run_of_another_configuration_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let asked = |values: &[(&str, &str)]| {
            let values: Vec<_> = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            config::merge("simans", crate::recipes::find("simans").unwrap().text, &values).unwrap()
        };
        let check = |asked: &Config| unchanged(asked, place.path()).map_err(|error| error.to_string());
        check(&asked(&[])).unwrap();
        // As a run leaves it: with what it decided itself.
        let left = asked(&[("train.steps", "20"), ("train.learning_rate", "0.02"), ("loss.temperature", "0.15"), ("output.folder", "x")]);
        fs::write(place.path().join("config.toml"), toml::to_string(&left).unwrap()).unwrap();
        check(&asked(&[])).unwrap();
        check(&asked(&[("train.steps", "20"), ("loss.temperature", "0.15")])).unwrap();
        for (key, value, said) in [
            ("loss.temperature", "0.1", "loss.temperature = 0.15, and 0.1 is asked for"),
            ("train.learning_rate", "0.01", "train.learning_rate = 0.02, and 0.01"),
            ("negatives.draw.a", "3.0", "negatives.draw.a = "),
            ("data.teacher", "scores.jsonl", "data.teacher = nothing, and \"scores.jsonl\""),
        ] {
            let error = check(&asked(&[(key, value)])).unwrap_err();
            assert!(error.contains(said) && error.contains("config.toml"), "{error}");
        }
    }

    #[test]
    fn only_the_empty_parts_of_a_run_are_cleared() {
        let place = tempfile::tempdir().unwrap();
        let run = place.path().join("ance-seed1");
        clear(&run).unwrap();
        for part in ["checkpoints", "evaluation"] {
            fs::create_dir_all(run.join(part)).unwrap();
        }
        fs::write(run.join(".config.toml.partial"), "[enc").unwrap();
        clear(&run).unwrap();
        assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
        fs::create_dir_all(run.join("mine")).unwrap();
        fs::write(run.join("mine/precious"), "x").unwrap();
        clear(&run).unwrap();
        assert!(run.join("mine/precious").is_file());
    }
}
