//! Models by name from the Hugging Face hub, into the cache that the Python tools share.
//!
//! Owns the choice of files and the rules for being offline; the protocol, the cache layout and resumed downloads belong
//! to the `hf-hub` crate. Invariant: the folder returned holds files of one commit, because every file is asked for
//! under the commit that the listing named.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;

use crate::error::EncoderError;
use crate::folder::{COPIED, LENGTH_FILES};
use crate::weights::shard_names;

const PUBLIC: &str = "https://huggingface.co";

/// Where models are downloaded from and kept.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Address of the hub.
    pub endpoint: String,
    /// Folder of the cache, in the layout of the Python tools.
    pub cache: PathBuf,
    /// Token for private and gated models.
    pub token: Option<String>,
    /// Never ask the hub.
    pub offline: bool,
    /// Show download progress on standard error.
    pub progress: bool,
}

impl Hub {
    /// As the environment says: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN` (or the token file of the cache),
    /// `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let cache = variable("HF_HUB_CACHE").map_or_else(Cache::from_env, |path| Cache::new(path.into()));
        Self {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| PUBLIC.to_owned()).trim_end_matches('/').to_owned(),
            token: variable("HF_TOKEN").or_else(|| cache.token()),
            cache: cache.path().clone(),
            offline: variable("HF_HUB_OFFLINE")
                .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")),
            progress: std::io::IsTerminal::is_terminal(&std::io::stderr()),
        }
    }

    /// True for `organisation/name`, each part of letters, digits, `.`, `_` and `-`.
    pub fn is_id(spec: &str) -> bool {
        let part = |text: &str| {
            !text.is_empty()
                && !text.starts_with('.')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        spec.split_once('/').is_some_and(|(organisation, name)| part(organisation) && part(name))
    }

    /// The folder of a model that is given as a folder or as an id, fetched as the environment says.
    ///
    /// # Errors
    /// When it is neither, or cannot be had.
    pub(crate) fn locate(spec: &str) -> Result<PathBuf, EncoderError> {
        match Path::new(spec) {
            folder if folder.is_dir() => Ok(folder.to_owned()),
            _ if Self::is_id(spec) => Self::from_env().fetch(spec),
            _ => Err(EncoderError::UnknownModel { spec: spec.to_owned() }),
        }
    }

    /// A local folder with the files of model `id`: what loading needs and nothing else.
    ///
    /// # Errors
    /// Without an answer from the hub a cached copy is used with a warning, and only without one is it an error.
    pub fn fetch(&self, id: &str) -> Result<PathBuf, EncoderError> {
        if self.offline {
            return self.cached(id).ok_or_else(|| EncoderError::Offline { id: id.to_owned(), cache: self.cache.clone() });
        }
        match self.download(id) {
            Err(EncoderError::Hub { source, .. }) if is_outage(&source) => {
                let Some(folder) = self.cached(id) else { return Err(self.failure(id)(*source)) };
                tracing::warn!(id, error = %source, folder = %folder.display(), "the hub does not answer; using the cached model");
                Ok(folder)
            }
            result => result,
        }
    }

    /// The snapshot that `main` pointed to when the model was last downloaded.
    fn cached(&self, id: &str) -> Option<PathBuf> {
        let repository = Cache::new(self.cache.clone()).model(id.to_owned());
        let file = ["modules.json", "config.json"].iter().find_map(|file| repository.get(file))?;
        file.parent().map(Path::to_owned)
    }

    fn download(&self, id: &str) -> Result<PathBuf, EncoderError> {
        let failure = self.failure(id);
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(self.progress)
            .with_retries(3)
            .build()
            .map_err(&failure)?;
        let listing = api.model(id.to_owned()).info().map_err(&failure)?;
        let present: Vec<String> = listing.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let commit = api.repo(Repo::with_revision(id.to_owned(), RepoType::Model, listing.sha.clone()));
        let fetch = Fetch { id, commit: &commit, present: &present, failure: &failure };

        let folder = fetch.everything()?;
        // Loading offline later looks for `main`; hf-hub itself noted only the commit it was asked for.
        Cache::new(self.cache.clone())
            .model(id.to_owned())
            .create_ref(&listing.sha)
            .map_err(|source| EncoderError::Write { path: self.cache.clone(), source })?;
        Ok(folder)
    }

    fn failure(&self, id: &str) -> impl Fn(ApiError) -> EncoderError {
        let (id, endpoint) = (id.to_owned(), self.endpoint.clone());
        move |source| EncoderError::Hub { id: id.clone(), endpoint: endpoint.clone(), source: Box::new(source) }
    }
}

/// True when nobody answered, as opposed to an answer that says no.
fn is_outage(error: &ApiError) -> bool {
    // The client does not re-export its transport error type; its text begins with the status when there was one.
    matches!(error, ApiError::RequestError(_)) && !error.to_string().contains("status code 4")
}

/// Downloads from one commit whose file list is known.
struct Fetch<'a, F> {
    id: &'a str,
    commit: &'a ApiRepo,
    present: &'a [String],
    failure: &'a F,
}

impl<F: Fn(ApiError) -> EncoderError> Fetch<'_, F> {
    /// Fetches what a model folder needs and returns the snapshot folder.
    fn everything(&self) -> Result<PathBuf, EncoderError> {
        let has_modules = self.has("modules.json");
        if !has_modules && !self.has("config.json") {
            return Err(self.lacks("config.json", "it holds no model of the transformers or sentence-transformers kind"));
        }
        let mut folder = PathBuf::new();
        let top = ["modules.json", "config_sentence_transformers.json"];
        for file in top.iter().chain(&COPIED).chain(&LENGTH_FILES).filter(|file| self.has(file)) {
            folder = parent(&self.get(file)?);
        }
        // Plain transformers folders keep everything at the top; modules may have folders of their own.
        let mut places = vec![String::new()];
        if has_modules {
            places = module_paths(&folder.join("modules.json"))?;
        }
        let mut weights = false;
        for place in &places {
            let inside = |file: &str| if place.is_empty() { file.to_owned() } else { format!("{place}/{file}") };
            if !place.is_empty() {
                for file in COPIED.iter().chain(&LENGTH_FILES).map(|file| inside(file)).filter(|file| self.has(file)) {
                    self.get(&file)?;
                }
            }
            weights |= self.weights(&inside)?;
        }
        if !weights {
            return Err(self.lacks("model.safetensors", "convert its weights to safetensors first"));
        }
        Ok(folder)
    }

    /// The weight file of one module, or all its shards; false when it has none.
    fn weights(&self, inside: &dyn Fn(&str) -> String) -> Result<bool, EncoderError> {
        let single = inside("model.safetensors");
        if self.has(&single) {
            return self.get(&single).map(|_| true);
        }
        let index = inside("model.safetensors.index.json");
        if !self.has(&index) {
            return Ok(false);
        }
        let path = self.get(&index)?;
        let shards = shard_names(&read_json(&path)?).ok_or_else(|| EncoderError::Field {
            path,
            field: "weight_map".to_owned(),
            got: "something else".to_owned(),
            expected: "an object from tensor names to plain file names".to_owned(),
        })?;
        for shard in shards {
            self.get(&inside(&shard))?;
        }
        Ok(true)
    }

    fn has(&self, file: &str) -> bool {
        self.present.iter().any(|present| present == file)
    }

    fn get(&self, file: &str) -> Result<PathBuf, EncoderError> {
        self.commit.get(file).map_err(self.failure)
    }

    fn lacks(&self, file: &str, hint: &'static str) -> EncoderError {
        EncoderError::HubFile { id: self.id.to_owned(), file: file.to_owned(), hint }
    }
}

/// The folders that `modules.json` names, relative and without any that lead elsewhere.
fn module_paths(path: &Path) -> Result<Vec<String>, EncoderError> {
    let modules = read_json(path)?;
    let paths = modules.as_array().into_iter().flatten().filter_map(|module| module.get("path")?.as_str());
    Ok(paths.filter(|path| !path.contains("..") && !path.starts_with('/')).map(in_repository).collect())
}

/// A module's folder as the hub lists files: model2vec writes `.` for the top.
fn in_repository(path: &str) -> String {
    let path = path.trim_start_matches("./");
    if path == "." { String::new() } else { path.to_owned() }
}

fn read_json(path: &Path) -> Result<Value, EncoderError> {
    let bytes = std::fs::read(path).map_err(|source| EncoderError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| EncoderError::Json { path: path.to_owned(), source })
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_modules_are_those_of_the_hub() {
        assert_eq!([".", "", "./0_Bag", ".bag"].map(in_repository), ["", "", "0_Bag", ".bag"]);
    }

    #[test]
    fn ids_are_told_from_paths() {
        for id in ["sentence-transformers/all-MiniLM-L6-v2", "a/b.c_d"] {
            assert!(Hub::is_id(id), "{id}");
        }
        for path in ["model", "./model", "/a/b", "a/b/c", "a/", "../b", "a/..", "a b/c"] {
            assert!(!Hub::is_id(path), "{path}");
        }
    }
}
