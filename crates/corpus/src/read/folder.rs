//! The files of a folder by name, extension and split.
//!
//! Names are sorted, so that reading order, dense ids and fingerprints never depend on the file system.

use std::path::{Path, PathBuf};

use crate::error::CorpusError;

/// A folder's entries.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Names of all entries, sorted.
    names: Vec<String>,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, CorpusError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(CorpusError::io(path))? {
            let entry = entry.map_err(CorpusError::io(path))?;
            // A name that is no Unicode belongs to no format.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(Self { path: path.to_owned(), names })
    }

    /// The folder that a file lies in, for [`Self::text_file`] only: it is not listed.
    pub(crate) fn around(file: &Path) -> Self {
        let path = file.parent().unwrap_or(Path::new("")).to_owned();
        Self { path, names: Vec::new() }
    }

    /// The sub-folder of this name; without files when there is none.
    pub(crate) fn inside(&self, name: &str) -> Result<Self, CorpusError> {
        let path = self.path.join(name);
        if path.is_dir() { Self::open(&path) } else { Ok(Self { path, names: Vec::new() }) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file `name` or `name.gz`.
    pub(crate) fn text_file(&self, name: &str) -> Option<PathBuf> {
        [name.to_owned(), format!("{name}.gz")].into_iter().map(|name| self.path.join(name)).find(|path| path.is_file())
    }

    /// Files with one of these extensions (also before `.gz`), as `(stem, path)`, by name.
    pub(crate) fn with_extension(&self, extensions: &[&str]) -> Vec<(String, PathBuf)> {
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for name in self.names.iter().filter(|name| !name.starts_with('.')) {
            let plain = name.strip_suffix(".gz").unwrap_or(name);
            let Some((stem, extension)) = plain.rsplit_once('.') else { continue };
            let path = self.path.join(name);
            // `x.tsv` sorts before `x.tsv.gz`: of both, the plain one is taken.
            if extensions.contains(&extension) && path.is_file() && files.last().is_none_or(|(last, _)| last != stem) {
                files.push((stem.to_owned(), path));
            }
        }
        files
    }

    /// The entries for a message, at most a dozen.
    pub(crate) fn describe(&self) -> String {
        const SHOWN: usize = 12;
        match self.names.len() {
            0 => "an empty folder".to_owned(),
            n if n > SHOWN => format!("{}, … ({n} entries)", self.names[..SHOWN].join(", ")),
            _ => self.names.join(", "),
        }
    }
}

/// The split that a file of training rows belongs to: `dev` or `test` when its name says so, else `train`.
pub(crate) fn split_of(stem: &str) -> &'static str {
    let lower = stem.to_ascii_lowercase();
    for word in lower.split(|c: char| !c.is_ascii_alphanumeric()) {
        match word {
            "dev" | "valid" | "validation" => return "dev",
            "test" => return "test",
            _ => {}
        }
    }
    "train"
}
