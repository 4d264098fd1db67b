//! Models by name from the Hugging Face hub, into the cache that the Python tools share.
//!
//! Owns the choice of files and the rules for being offline; the protocol, the cache layout and resumed downloads belong
//! to the `hf-hub` crate. Invariant: the folder returned holds files of one commit, because every file is asked for
//! under the commit that the listing named.
//!
//! A copy in the cache may be a part of the model: other tools fetch the files that they need, and transformers needs no
//! `modules.json`. A model without one is pooled otherwise, so the absence of a file counts only where the cache shows that the model
//! has none ([`Snapshot::absence`]); downloads leave notes that do.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;

use crate::error::EncoderError;
use crate::folder::{COPIED, LENGTH_FILES, is_reranker, optional_json};
use crate::weights::shard_names;

const PUBLIC: &str = "https://huggingface.co";
/// What is fetched of the top folder of a model, beside [`COPIED`] and [`LENGTH_FILES`].
const TOP: [&str; 2] = ["modules.json", PROMPTS];
const PROMPTS: &str = "config_sentence_transformers.json";

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
    /// Without an answer from the hub a cached copy is used with a warning, and only without one is it an error; or where the copy may
    /// lack a file without which the model would be taken for another.
    pub fn fetch(&self, id: &str) -> Result<PathBuf, EncoderError> {
        if self.offline {
            return self.cached(id)?.ok_or_else(|| EncoderError::Offline { id: id.to_owned(), cache: self.cache.clone() });
        }
        match self.download(id) {
            Err(EncoderError::Hub { source, .. }) if is_outage(&source) => {
                let Some(folder) = self.cached(id)? else { return Err(self.failure(id)(*source)) };
                tracing::warn!(id, error = %source, folder = %folder.display(), "the hub does not answer; using the cached model");
                Ok(folder)
            }
            result => result,
        }
    }

    /// The snapshot that `main` pointed to when the model was last downloaded.
    fn cached(&self, id: &str) -> Result<Option<PathBuf>, EncoderError> {
        let repository = Cache::new(self.cache.clone()).model(id.to_owned());
        let Some(file) = ["modules.json", "config.json"].iter().find_map(|file| repository.get(file)) else { return Ok(None) };
        let folder = parent(&file);
        self.snapshot(id, &folder).check(id)?;
        Ok(Some(folder))
    }

    /// What the cache knows of the model of this snapshot.
    fn snapshot<'a>(&self, id: &str, folder: &'a Path) -> Snapshot<'a> {
        Snapshot { folder, repository: self.cache.join(Repo::new(id.to_owned(), RepoType::Model).folder_name()) }
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
        self.snapshot(id, &folder).note_absent(&present)?;
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
        for file in TOP.iter().chain(&COPIED).chain(&LENGTH_FILES).filter(|file| self.has(file)) {
            folder = parent(&self.get(file)?);
        }
        // Plain transformers folders keep everything at the top; modules may have folders of their own.
        let mut places = vec![String::new()];
        if has_modules {
            places = module_paths(&folder.join("modules.json"))?;
        }
        let mut weights = false;
        for place in &places {
            let inside = |file: &str| inside(place, file);
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

/// A model's folder in the cache, and what else the cache says of the model.
struct Snapshot<'a> {
    folder: &'a Path,
    /// The folder of all its snapshots.
    repository: PathBuf,
}

/// What is known of a file that is not in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// The model has no such file.
    True,
    /// The model has it.
    False,
    Unknown,
}

impl Snapshot<'_> {
    /// The folder is named after the commit.
    fn commit(&self) -> &std::ffi::OsStr {
        self.folder.file_name().unwrap_or_default()
    }

    /// Where the Python tools, and downloads here, note that the model has no such file.
    fn note(&self, file: &str) -> PathBuf {
        self.repository.join(".no_exist").join(self.commit()).join(file)
    }

    /// What the cache knows of a `file` that it does not hold.
    fn absence(&self, file: &str) -> Absence {
        // Current Python tools keep the listing of what they fetch whole.
        let mut listing = self.repository.join("trees").join(self.commit()).into_os_string();
        listing.push(".json");
        if let Ok(Some(listing)) = optional_json(Path::new(&listing))
            && listing["format_version"] == 1
            && let Some(files) = listing["files"].as_object()
        {
            return if files.contains_key(file) { Absence::False } else { Absence::True };
        }
        // The library that downloads here asks by commit, and leaves a reference of that name behind its first file; `modules.json` is asked for before any other. The Python tools leave none.
        let asked_first = file == TOP[0] && self.repository.join("refs").join(self.commit()).is_file();
        if self.note(file).is_file() || asked_first || self.is_whole() {
            return Absence::True;
        }
        Absence::Unknown
    }

    /// Whether everything was fetched: every repository has `.gitattributes`, and nothing else has a use for it. A download that is
    /// under way or was broken off leaves a blob that says so.
    fn is_whole(&self) -> bool {
        let incomplete = |entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "incomplete");
        let blobs = fs::read_dir(self.repository.join("blobs")).into_iter().flatten();
        self.folder.join(".gitattributes").is_file() && !blobs.flatten().any(incomplete)
    }

    /// Refuses a copy without a file that the model has, or without `modules.json` where the model may have one; warns of lesser files
    /// that it may have. Those that loading cannot do without are missed there.
    fn check(&self, id: &str) -> Result<(), EncoderError> {
        const LISTED: &str = "which the model has";
        const UNKNOWN: &str = "and nothing there shows that the model has none: how it pools is not known";
        let lacks = |file: &str| !self.folder.join(file).is_file();
        let partial = |file: &str, reason: &'static str| EncoderError::PartialCopy {
            id: id.to_owned(),
            folder: self.folder.to_owned(),
            file: file.to_owned(),
            reason,
        };
        // How a reranker pools is in its configuration.
        let reranks = optional_json(&self.folder.join("config.json"))?.is_some_and(|config| is_reranker(&config));
        if lacks("modules.json") && !reranks {
            match self.absence("modules.json") {
                Absence::True => {}
                Absence::False => return Err(partial("modules.json", LISTED)),
                Absence::Unknown => return Err(partial("modules.json", UNKNOWN)),
            }
        }
        let mut doubtful = Vec::new();
        for file in self.telling(reranks)?.into_iter().filter(|file| lacks(file)) {
            match self.absence(&file) {
                Absence::True => {}
                Absence::False => return Err(partial(&file, LISTED)),
                Absence::Unknown => doubtful.push(file),
            }
        }
        if !doubtful.is_empty() {
            tracing::warn!(
                id, folder = %self.folder.display(),
                "the cached copy has no {}, and nothing there shows that the model has none: prompts, lengths and lowercasing may be others \
                 than the model's; load it once while the hub can be reached",
                doubtful.join(", ")
            );
        }
        Ok(())
    }

    /// Files without which a model loads, but reads texts in another way.
    fn telling(&self, reranks: bool) -> Result<Vec<String>, EncoderError> {
        let mut files: Vec<String> = (!reranks).then(|| PROMPTS.to_owned()).into_iter().collect();
        let modules = optional_json(&self.folder.join("modules.json"))?;
        let body = modules.as_ref().and_then(|modules| modules.get(0));
        let text = |key: &str| body.and_then(|body| body.get(key)?.as_str()).unwrap_or_default();
        if !text("type").ends_with("StaticEmbedding") {
            let place = in_repository(text("path"));
            let has_length = LENGTH_FILES.iter().any(|file| self.folder.join(&place).join(file).is_file());
            // Rerankers rarely have one.
            let lengths = (!has_length && !reranks).then_some(LENGTH_FILES[0]);
            files.extend(lengths.into_iter().chain(["tokenizer_config.json"]).map(|file| inside(&place, file)));
        }
        Ok(files)
    }

    /// Notes which files that are asked for the model has not, being those that are not `present`, for the time without the hub.
    /// One that cannot be written is missed then and not now.
    fn note_absent(&self, present: &[String]) -> Result<(), EncoderError> {
        let modules = self.folder.join("modules.json");
        let mut places = if modules.is_file() { module_paths(&modules)? } else { Vec::new() };
        places.push(String::new());
        let everywhere = places.iter().flat_map(|place| COPIED.iter().chain(&LENGTH_FILES).map(move |file| inside(place, file)));
        let wanted = TOP.iter().map(|&file| file.to_owned()).chain(everywhere);
        for note in wanted.filter(|file| !present.contains(file)).map(|file| self.note(&file)) {
            let write = || {
                fs::create_dir_all(parent(&note))?;
                fs::write(&note, "")
            };
            if !note.is_file()
                && let Err(error) = write()
            {
                tracing::warn!(note = %note.display(), %error, "what the model has not cannot be noted: without the hub it may be refused");
                break;
            }
        }
        Ok(())
    }
}

/// A file of a module, as the hub lists it.
fn inside(place: &str, file: &str) -> String {
    if place.is_empty() { file.to_owned() } else { format!("{place}/{file}") }
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

    /// A cache with these files of model `a/b`, whose `main` is commit `c0`.
    fn cache(files: &[(&str, &str)]) -> (tempfile::TempDir, Hub) {
        let cache = tempfile::tempdir().unwrap();
        for (name, content) in files.iter().chain(&[("refs/main", "c0")]) {
            let path = cache.path().join("models--a--b").join(name);
            fs::create_dir_all(parent(&path)).unwrap();
            fs::write(path, content).unwrap();
        }
        let hub = Hub { endpoint: PUBLIC.to_owned(), cache: cache.path().to_owned(), token: None, offline: true, progress: false };
        (cache, hub)
    }

    const CONFIG: (&str, &str) = ("snapshots/c0/config.json", r#"{"model_type": "bert"}"#);
    const MODULES: (&str, &str) = ("snapshots/c0/modules.json", r#"[{"path": "", "type": "sentence_transformers.models.Transformer"}]"#);
    const LISTING: &str = "trees/c0.json";
    const WHOLE: (&str, &str) = ("snapshots/c0/.gitattributes", "");

    #[test]
    fn a_copy_without_modules_counts_only_where_the_model_has_none() {
        let reranker = ("snapshots/c0/config.json", r#"{"architectures": ["BertForSequenceClassification"]}"#);
        let listing = |files: &'static str| (LISTING, files);
        // Files beside the weights, and what the refusal says.
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: [Case<'_>; 8] = [
            (&[CONFIG], Some("has no modules.json, and nothing there shows that the model has none")),
            (&[CONFIG, (".no_exist/c0/modules.json", "")], None),
            (&[CONFIG, (".no_exist/c1/modules.json", "")], Some("and nothing there shows")),
            (&[CONFIG, listing(r#"{"format_version": 1, "files": {"config.json": {}}}"#)], None),
            (
                &[CONFIG, listing(r#"{"format_version": 1, "files": {"modules.json": {}}}"#), WHOLE],
                Some("has no modules.json, which the model has"),
            ),
            (&[CONFIG, WHOLE], None),
            (&[CONFIG, WHOLE, ("blobs/e.incomplete", "")], Some("and nothing there shows")),
            (&[reranker], None),
        ];
        for (files, refusal) in cases {
            let (cache, hub) = cache(files);
            match (hub.fetch("a/b"), refusal) {
                (Ok(folder), None) => assert_eq!(folder, cache.path().join("models--a--b/snapshots/c0")),
                (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{files:?}: {error}"),
                (got, _) => panic!("{files:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn other_files_that_the_model_has_are_missed_too() {
        let files = r#"{"format_version": 1, "files": {"modules.json": {}, "config_sentence_transformers.json": {}}}"#;
        let (_cache, hub) = cache(&[CONFIG, MODULES, (LISTING, files)]);
        let message = hub.fetch("a/b").unwrap_err().to_string();
        assert!(message.contains("has no config_sentence_transformers.json, which the model has"), "{message}");
        // Where nothing is known of them, a warning must do.
        let (_cache, hub) = cache(&[CONFIG, MODULES]);
        assert!(hub.fetch("a/b").is_ok());
    }

    #[test]
    fn downloads_note_what_the_model_has_not() {
        let (cache, hub) = cache(&[CONFIG]);
        let folder = cache.path().join("models--a--b/snapshots/c0");
        let snapshot = hub.snapshot("a/b", &folder);
        assert_eq!(snapshot.absence("modules.json"), Absence::Unknown);
        snapshot.note_absent(&["config.json".to_owned(), "tokenizer_config.json".to_owned()]).unwrap();
        for (file, expected) in
            [("modules.json", Absence::True), ("sentence_bert_config.json", Absence::True), ("tokenizer_config.json", Absence::Unknown)]
        {
            assert_eq!(snapshot.absence(file), expected, "{file}");
        }
        assert_eq!(hub.fetch("a/b").unwrap(), folder);
    }

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
