//! What a run measures and keeps on its way: the start, evaluations, checkpoints, and the end with its model folder and report.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use corpus::Judgments;
use mining::{EmbeddingStore, RowEncoder, StorePrecision};
use serde_json::json;

use super::{Finished, FreshRows, Session};
use crate::account::Account;
use crate::checkpoint::Checkpoint;
use crate::config::Keep;
use crate::errors::OrUsage;
use crate::evaluation::{self, DEPTH, Scored, Summary};
use crate::output;
use crate::rows::Rows;
use crate::runfolder::write_whole;
use crate::setup;
use crate::splits;

impl Session {
    pub(super) fn test_split(&self) -> Result<Judgments> {
        let collection = &self.around.data.collection;
        Ok(collection.split(splits::test_name(collection, &self.config.data)).or_usage()?.clone())
    }

    /// Says what is about to run: everything that a person may have meant otherwise.
    pub(super) fn announce(&self, recipe: &str) {
        let (config, collection) = (&self.config, &self.around.data.collection);
        let (train, names) = (&config.train, &config.data);
        output::note(&format!(
            "training {} as {recipe} says on {} ({} pairs, {} documents): {} of {} queries, learning rate {}, seed {}, on {}",
            config.encoder.model,
            collection.name,
            self.stage.plan.pairs(),
            self.around.data.documents(),
            train.seconds.map_or_else(|| format!("{} steps", self.course().steps()), |seconds| format!("{seconds} seconds of steps")),
            config.batch.queries,
            train.learning_rate.unwrap_or_default(),
            train.seed,
            self.around.chosen.name,
        ));
        let (test, evaluated) = (splits::test_name(collection, names), collection.find_split(&names.evaluate).is_some());
        // Two names may be one split.
        let same = matches!((collection.find_split(test), collection.find_split(&names.evaluate)), (Some(test), Some(other)) if std::ptr::eq(test, other));
        let chosen = match (evaluated && train.keep == Keep::Best && self.evaluate_every > 0, same) {
            (true, true) => format!("on the split `{test}`, which also chooses the best weights"),
            (true, false) => format!("on the split `{test}`; `{}` chooses the best weights", names.evaluate),
            (false, _) => format!("on the split `{test}`; the last weights are kept"),
        };
        output::note(&format!("measured {chosen}; run folder {}", self.folder.path().display()));
        for name in [test, names.evaluate.as_str()].into_iter().take(if same { 1 } else { 2 }) {
            let (Some(split), Some(train)) = (collection.find_split(name), collection.find_split(&names.train)) else { continue };
            let known = split.queries().filter(|&query| split.positives(query).any(|document| train.is_positive(query, document))).count();
            if known > 0 {
                tracing::warn!(
                    "{known} of the {} queries of the split `{name}` are trained on, with a document that is relevant there: its figures say little about others",
                    split.queries().count()
                );
            }
        }
        if config.batch.queries > self.stage.plan.pairs() {
            tracing::warn!(
                "batch.queries = {} is more than there are pairs to train on, {}: a step is a whole epoch",
                config.batch.queries,
                self.stage.plan.pairs()
            );
        }
        config.doubts().into_iter().flatten().for_each(|what| tracing::warn!("{what}"));
        if config.encoder.model.starts_with("builtin:") && !names.path.starts_with("builtin:") {
            tracing::warn!(
                "{} starts from random weights; a pretrained encoder, which --model names (a folder or a hub id), nearly always ends better",
                config.encoder.model
            );
        }
    }

    /// BM25 and the untrained encoder on the test split, once.
    pub(super) fn measure_start(&mut self, test: &Judgments) -> Result<()> {
        if self.position.before.is_some() {
            self.log.event("resume", self.position.step, &json!({ "device": self.around.chosen.name }))?;
            return Ok(());
        }
        let data = &self.around.data;
        let fingerprint = data.side.fingerprint.clone().unwrap_or_else(|| data.collection.fingerprint());
        let (precision, note) = setup::precision_used(self.config.train.precision, &self.around.chosen);
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"), "device": self.around.chosen.name, "collection": self.around.data.collection.name,
            "collection_fingerprint": fingerprint, "model": self.config.encoder.model,
            "model_fingerprint": self.encoder.fingerprint(), "pairs": self.stage.plan.pairs(), "steps": self.course().steps(),
            "documents": self.around.data.documents(), "precision": precision,
        });
        self.log.event("start", 0, &about)?;
        let settings = &self.encoder.settings;
        let account = Account::of(data, self.around.judgments.pairs().len(), settings.query_length, settings.document_length);
        self.log.event("data", 0, &account)?;
        output::note(&account.line());
        note.iter().for_each(|note| output::note(note));
        let bm25 = evaluation::of_bm25(&self.around.data.collection, test, DEPTH)?.summary;
        self.log.event("bm25", 0, &bm25)?;
        let before = self.evaluate(test)?.summary;
        self.log.event("before", 0, &before)?;
        output::note(&format!("before: nDCG@10 {:.4} (BM25 {:.4})", before.ndcg, bm25.ndcg));
        (self.position.bm25, self.position.before) = (Some(bm25), Some(before));
        Ok(())
    }

    /// Documents that stay as they are, or all of them by the weights of this moment.
    fn evaluate(&mut self, judgments: &Judgments) -> Result<Scored> {
        let (data, device) = (&self.around.data, &self.around.chosen.device);
        let mut rows = Rows::new(self.stage.learner.snapshot(), device, &data.tokens);
        if let Some(store) = self.stage.learner.columns.documents.store() {
            return evaluation::of_rows(&mut rows, store, data, judgments, DEPTH);
        }
        if self.fresh.is_none() {
            let begun = Instant::now();
            let mut store = EmbeddingStore::new(data.documents(), rows.dimension(), StorePrecision::F32, device);
            store.fill(&mut rows, Some(self.position.step)).context("encoding the documents")?;
            self.fresh = Some(FreshRows { store, seconds: begun.elapsed().as_secs_f64() });
        }
        let fresh = self.fresh.as_ref().context("document rows were just encoded")?;
        evaluation::of_rows(&mut rows, &fresh.store, data, judgments, DEPTH)
    }

    /// Where texts were generated: how well they can be told from documents by the rows of the encoder as it is now.
    pub(super) fn check_shortcut(&mut self) -> Result<()> {
        if self.stage.config.negatives.generated().is_none() {
            return Ok(());
        }
        let mut rows = Rows::new(self.stage.learner.snapshot(), &self.around.chosen.device, &self.around.data.tokens);
        match self.stage.miner.shortcut(&mut rows).context("checking for a shortcut")? {
            Some(found) => {
                self.log.event("shortcut", self.position.step, &found)?;
                output::note(&found.line());
            }
            None => output::note("shortcut check: too few generated texts to tell anything"),
        }
        Ok(())
    }

    /// Evaluates on the evaluation split and keeps the weights when they are the best so far.
    pub(super) fn evaluate_on_dev(&mut self) -> Result<()> {
        let Some(judgments) = self.around.data.collection.find_split(&self.config.data.evaluate).cloned() else { return Ok(()) };
        let begun = Instant::now();
        let summary = self.evaluate(&judgments)?.summary;
        let step = self.position.step;
        let mut fields = serde_json::to_value(summary)?;
        fields["seconds"] = begun.elapsed().as_secs_f64().into();
        self.log.event("evaluation", step, &fields)?;
        let better = self.position.best.is_none_or(|(best, _)| summary.ndcg > best);
        output::note(&format!(
            "step {step}: nDCG@10 {:.4} on {}{}",
            summary.ndcg,
            self.config.data.evaluate,
            if better { ", the best so far" } else { "" }
        ));
        if better && self.config.train.keep == Keep::Best {
            self.position.best = Some((summary.ndcg, step));
            self.best = Some(self.stage.learner.network().tensors());
        }
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) -> Result<()> {
        self.log.event("checkpoint", self.position.step, &json!({}))?;
        let mut position = self.position.clone();
        if let Some(log) = &mut self.batch_log {
            log.sync()?;
        }
        position.log_length = self.log.sync()?;
        position.seconds += self.started.elapsed().as_secs_f64();
        let checkpoint = Checkpoint {
            position,
            weights: self.stage.learner.network().tensors(),
            optimizer: self.stage.learner.optimizer.state(),
            best: self.best.clone(),
            miner: self.stage.miner.state()?,
            parts: self.stage.parts()?,
        };
        checkpoint.write(&self.folder.checkpoints(), self.config.train.keep_checkpoints)?;
        Ok(())
    }

    /// Where the model comes from and what it is worth, for its README.
    fn origin(&self, after: Summary) -> String {
        let (config, collection) = (&self.config, &self.around.data.collection);
        let folder = Some(Path::new(&config.encoder.model)).filter(|path| path.is_dir()).and_then(Path::file_name);
        let model = folder.map_or_else(|| config.encoder.model.clone(), |name| name.to_string_lossy().into_owned());
        let all = self.around.judgments.pairs().len();
        let pairs = if config.data.limit > 0 { all.min(config.data.limit) } else { all };
        let kept = match self.position.best {
            Some((_, step)) if config.train.keep == Keep::Best && step != self.position.step => format!(", the weights of step {step}"),
            _ => String::new(),
        };
        let mut text = format!(
            "Trained by Dredge {} from {} on {}: {pairs} pairs, {} documents, {} steps{kept}, seed {}.\n\n\
             Split `{}`, {} queries:\n\n| | nDCG@10 | MRR@10 | Recall@100 |\n|---|---:|---:|---:|\n",
            env!("CARGO_PKG_VERSION"),
            // Of a path only the name: the rest says nothing elsewhere.
            model,
            collection.name,
            self.around.data.documents(),
            self.position.step,
            config.train.seed,
            splits::test_name(collection, &config.data),
            after.queries,
        );
        for (name, figures) in [("BM25", self.position.bm25), ("before", self.position.before), ("this model", Some(after))] {
            if let Some(figures) = figures {
                let _ = writeln!(text, "| {name} | {:.4} | {:.4} | {:.4} |", figures.ndcg, figures.mrr, figures.recall);
            }
        }
        text
    }

    /// Writes the encoder as it is now; where the trained one reads queries only, that of the documents, which the round started from, goes beside it.
    pub(super) fn save_model(&mut self, folder: &Path, documents: &Path) -> Result<()> {
        self.encoder.network = self.stage.learner.snapshot();
        self.encoder.save(folder).context("writing the model folder")?;
        if self.stage.learner.columns.documents.store().is_some() {
            let frozen = self.models.round_documents(&self.stage.config, self.position.round)?;
            let trained = std::mem::replace(&mut self.encoder.network, frozen);
            self.encoder.save(documents).context("writing the model folder of the documents")?;
            self.encoder.network = trained;
        }
        Ok(())
    }

    /// Chooses the weights, writes the model, scores it on the test split and writes the report.
    pub(super) fn finish(mut self, test: &Judgments) -> Result<Finished> {
        if self.config.train.keep == Keep::Best && self.evaluate_every > 0 {
            self.evaluate_on_dev()?;
            if let Some(best) = self.best.take() {
                self.stage.learner.restore_weights(best)?;
                // Those of the last step are still the weights where that was the best.
                self.fresh.take_if(|_| self.position.best.is_none_or(|(_, step)| step != self.position.step));
            }
        }
        self.check_shortcut()?;
        self.save_model(&self.folder.model(), &self.folder.document_model())?;
        self.stage.learner.columns.end_round(&self.folder, self.position.round)?;
        let scored = self.evaluate(test)?;
        let after = scored.summary;
        self.encoder.card.text = self.origin(after);
        write_whole(&self.folder.model().join("README.md"), self.encoder.readme().as_bytes())?;
        self.log.event("after", self.position.step, &after)?;
        let tag = self
            .folder
            .path()
            .file_name()
            .map_or_else(|| "dredge".to_owned(), |name| name.to_string_lossy().replace(char::is_whitespace, "_"));
        scored.run.write_trec(self.folder.evaluation().join("run.trec"), &tag).context("writing run.trec")?;
        let seconds = self.position.seconds + self.started.elapsed().as_secs_f64();
        let mining = self.position.mining_seconds;
        let training = self.position.busy_seconds - mining;
        self.log.event(
            "end",
            self.position.step,
            &json!({ "seconds": seconds, "training_seconds": training, "mining_seconds": mining }),
        )?;
        self.log.sync()?;
        crate::report::write(&self.folder)?;
        // Last: its presence says that the run is finished.
        let metrics = json!({ "after": after, "before": self.position.before, "bm25": self.position.bm25, "all": scored.evaluation.to_json(evaluation::cut(DEPTH, self.around.data.documents())) });
        write_whole(&self.folder.evaluation().join("metrics.json"), serde_json::to_string_pretty(&metrics)?.as_bytes())?;
        Ok(Finished {
            bm25: self.position.bm25.context("the baseline was measured at the start")?,
            before: self.position.before.context("the encoder was measured at the start")?,
            after,
            model: self.folder.model().display().to_string(),
            document_model: Some(self.folder.document_model()).filter(|path| path.is_dir()).map(|path| path.display().to_string()),
            split: splits::test_name(&self.around.data.collection, &self.config.data).to_owned(),
            run: self.folder.path().display().to_string(),
            report: self.folder.report().display().to_string(),
            device: self.around.chosen.name,
            steps: self.position.step,
            seconds,
            data: self.config.data.path,
        })
    }
}
