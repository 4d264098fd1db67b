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
        let mut last = "";
        for name in self.names.iter().filter(|name| !name.starts_with('.')) {
            let plain = name.strip_suffix(".gz").unwrap_or(name);
            let Some((stem, extension)) = plain.rsplit_once('.') else { continue };
            let path = self.path.join(name);
            // `x.tsv` sorts before `x.tsv.gz`: of both, the plain one is taken.
            if extensions.contains(&extension) && path.is_file() && last != plain {
                last = plain;
                files.push((stem.to_owned(), path));
            }
        }
        files
    }

    /// The folders in it, by name.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.names.iter().filter(|name| !name.starts_with('.')).map(|name| self.path.join(name)).filter(|path| path.is_dir()).collect()
    }

    /// The entries for a message, at most eight.
    pub(crate) fn describe(&self) -> String {
        const SHOWN: usize = 8;
        match self.names.len() {
            0 => "nothing in it".to_owned(),
            n if n > SHOWN => format!("{}, … ({n} entries)", self.names[..SHOWN].join(", ")),
            _ => self.names.join(", "),
        }
    }
}

/// The name of a file without folder and extensions (`.jsonl`, `.jsonl.gz`), as [`Folder::with_extension`] gives it.
pub(crate) fn stem_of(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    plain.rsplit_once('.').map_or(plain, |(stem, _)| stem).to_owned()
}

/// The split that the name of a file of training rows says: the name, without extension, is that of a split, or ends with it behind
/// `-`, `_` or `.` (`squad_dev`). `None` for any other name.
pub(crate) fn split_of(stem: &str) -> Option<&'static str> {
    let lower = without_shard(stem).to_ascii_lowercase();
    let last = lower.rsplit(['-', '_', '.']).next().unwrap_or_default();
    known_split(last)
}

/// What the split is called here that a file of judgments calls `name`: `dev` for its other names, and any name of its own for others.
pub(crate) fn split_name(name: &str) -> &str {
    known_split(&name.to_ascii_lowercase()).unwrap_or(name)
}

/// As [`split_name`], for one of several files: of some that would be the same split (`dev` and `validation`) one is it, the one that is called so
/// where there is one, and the others keep their names.
pub(crate) fn split_among<'a>(name: &'a str, all: impl Iterator<Item = &'a str>) -> &'a str {
    let split = split_name(name);
    let mut alike: Vec<&str> = all.filter(|other| split_name(other) == split).collect();
    alike.sort_by_key(|other| *other != split);
    if alike.first() == Some(&name) { split } else { name }
}

/// The splits that have more names than one, or that training rows can belong to.
fn known_split(word: &str) -> Option<&'static str> {
    match word {
        "train" => Some("train"),
        "dev" | "valid" | "validation" | "val" => Some("dev"),
        "test" => Some("test"),
        _ => None,
    }
}

/// `test-00000-of-00003` is a shard of `test`, and so is `test-00000-of-00003-b42a775f407cee45`: the hub has put a fingerprint behind.
pub(crate) fn without_shard(stem: &str) -> &str {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_fingerprint = |part: &str| part.len() == 16 && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_total = |part: &str| match part.split_once('-') {
        Some((total, fingerprint)) => is_number(total) && is_fingerprint(fingerprint),
        None => is_number(part),
    };
    match stem.rsplit_once("-of-") {
        Some((head, total)) if is_total(total) => match head.rsplit_once('-') {
            Some((split, shard)) if is_number(shard) => split,
            None if is_number(head) => "",
            _ => stem,
        },
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_a_split_when_its_name_is_that_or_ends_with_it() {
        let cases = [
            ("train", Some("train")),
            ("VALIDATION", Some("dev")),
            ("val", Some("dev")),
            ("squad_dev", Some("dev")),
            ("data-test", Some("test")),
            ("data.valid", Some("dev")),
            ("test-00000-of-00003", Some("test")),
            ("test-00000-of-00001-b42a775f407cee45", Some("test")),
            ("squad_dev-00000-of-00001-0000000000000000", Some("dev")),
            ("test-00000-of-00001-b42a775f407cee4", None),
            ("test-00000-of-00001-b42a775f407ceeXY", None),
            ("my-test-data", None),
            ("latest", None),
            ("dev_old", None),
            ("pairs", None),
            ("00000-of-00003", None),
            ("00000-of-00003-b42a775f407cee45", None),
        ];
        for (stem, expected) in cases {
            assert_eq!(split_of(stem), expected, "{stem}");
        }
    }

    #[test]
    fn judgments_keep_names_of_their_own() {
        for (name, expected) in
            [("validation", "dev"), ("Valid", "dev"), ("TEST", "test"), ("test_graded", "test_graded"), ("dev.small", "dev.small")]
        {
            assert_eq!(split_name(name), expected);
        }
        let all = ["dev", "test", "validation"];
        assert_eq!(all.map(|name| split_among(name, all.into_iter())), all);
        assert_eq!(split_among("validation", all[1..].iter().copied()), "dev");
    }

    #[test]
    fn a_stem_has_no_extension() {
        for (path, expected) in [("a/b.test.jsonl.gz", "b.test"), ("train.parquet", "train"), ("rows", "rows")] {
            assert_eq!(stem_of(Path::new(path)), expected);
        }
    }
}
