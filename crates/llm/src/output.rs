//! The folder of a job: what it is, written before it begins; rows and rejected answers, each file written whole, when it ends.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;

use crate::{error::LlmError, jobs::Outcome, journal};

/// The folder of one job.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder, or goes on with one that holds the same job: `identity` is an object of what must not change, such as kind, data and
    /// model; settings stand in an object of their own in it, under `settings`.
    ///
    /// # Errors
    /// When the folder cannot be made, or holds another job or anything else.
    pub fn open(path: &Path, identity: &Value) -> Result<Self, LlmError> {
        Self::check(path, identity)?;
        fs::create_dir_all(path).map_err(LlmError::io(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Looks whether a folder holds no job or this one, and changes nothing.
    ///
    /// # Errors
    /// When it holds another job or anything else, or cannot be read.
    pub fn check(path: &Path, identity: &Value) -> Result<(), LlmError> {
        if path.exists() && !path.is_dir() {
            return Err(LlmError::NoJob { path: path.to_owned(), problem: "is a file".into() });
        }
        let file = path.join("job.json");
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return is_free(path),
            Err(error) => return Err(LlmError::io(&file)(error)),
        };
        let known: Value = serde_json::from_slice(&bytes).map_err(|error| LlmError::Text {
            place: file.display().to_string(),
            problem: error.to_string(),
            expected: "what this program wrote".into(),
        })?;
        let known = &known["job"];
        if !known.is_object() {
            return Err(LlmError::NoJob { path: path.to_owned(), problem: "has a job.json of something else".into() });
        }
        for (name, asked) in identity.as_object().into_iter().flatten() {
            match asked.as_object().filter(|_| name == SETTINGS) {
                Some(settings) => settings.iter().try_for_each(|(name, asked)| {
                    let flag = format!("--{}", name.replace('_', "-"));
                    alike(path, &flag, &known[SETTINGS][name], asked)
                })?,
                None => alike(path, name, &known[name], asked)?,
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `job.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_job(&self, job: &Value) -> Result<(), LlmError> {
        self.whole("job.json", |out| {
            serde_json::to_writer_pretty(&mut *out, job)?;
            out.write_all(b"\n")
        })
    }

    /// Writes the rows to `name`, within the folder, and what was rejected to `rejected.jsonl`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_outcome(&self, name: &str, outcome: &Outcome) -> Result<(), LlmError> {
        self.whole(name, |out| lines(out, &outcome.rows))?;
        self.whole("rejected.jsonl", |out| lines(out, &outcome.rejected))
    }

    /// Writes some fields of the rows to `name`, for readers that take every field for data.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_columns(&self, name: &str, outcome: &Outcome, columns: &[&str]) -> Result<(), LlmError> {
        let bare = |row: &Value| Value::Object(columns.iter().map(|name| ((*name).to_owned(), row[*name].clone())).collect());
        let rows: Vec<Value> = outcome.rows.iter().map(bare).collect();
        self.whole(name, |out| lines(out, &rows))
    }

    /// A reader finds the old file or the new one, never a part.
    fn whole(&self, name: &str, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<(), LlmError> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(LlmError::io(parent))?;
        }
        let partial = path.with_extension("partial");
        let done = File::create(&partial).and_then(|file| {
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&partial, &path)
        });
        done.map_err(LlmError::io(&path))
    }
}

/// The part of an identity that is named as flags are.
const SETTINGS: &str = "settings";

/// Looks whether something is as it was.
fn alike(path: &Path, what: &str, there: &Value, asked: &Value) -> Result<(), LlmError> {
    if there == asked {
        return Ok(());
    }
    let shown = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        other => other.as_str().map_or_else(|| other.to_string(), str::to_owned),
    };
    Err(LlmError::OtherJob { path: path.to_owned(), what: what.to_owned(), there: shown(there), asked: shown(asked) })
}

/// Looks whether a folder without a `job.json` is empty, or has the journal of a job that was killed before it wrote one. Whatever else lies there
/// is somebody's: a collection has a `queries.jsonl` as well.
fn is_free(path: &Path) -> Result<(), LlmError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(LlmError::io(path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(LlmError::io(path))?.file_name().to_string_lossy().into_owned();
        // What file managers leave behind.
        names.extend(Some(name).filter(|name| !name.starts_with('.')));
    }
    if names.is_empty() || names.iter().any(|name| name == "journal.jsonl") && journal::is_one(&path.join("journal.jsonl"))? {
        return Ok(());
    }
    names.sort_unstable();
    Err(LlmError::NoJob { path: path.to_owned(), problem: format!("is no folder of a job and not empty (it has {})", names[0]) })
}

fn lines(out: &mut impl Write, rows: &[impl Serialize]) -> std::io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_folder_goes_on_with_the_same_job_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let identity = json!({ "kind": "queries", "model": "m" });
        Folder::check(&path, &identity).unwrap();
        assert!(!path.exists(), "a look makes no folder");
        let folder = Folder::open(&path, &identity).unwrap();
        folder.write_job(&json!({ "job": identity, "rows": 3 })).unwrap();
        Folder::open(&path, &identity).unwrap();
        let message = Folder::open(&path, &json!({ "kind": "queries", "model": "n" })).unwrap_err().to_string();
        assert!(message.contains("a job with model m, asked for is n"), "{message}");
        assert!(Folder::check(&path, &json!({ "kind": "queries", "model": "n" })).is_err());
        fs::write(path.join("job.json"), "{").unwrap();
        assert!(Folder::open(&path, &identity).is_err());
    }

    /// Queries are written to `queries.jsonl`, as a collection has one.
    #[test]
    fn what_is_no_folder_of_a_job_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        let refused = |part: &str| {
            for outcome in [Folder::check(&path, &json!({})), Folder::open(&path, &json!({})).map(|_| ())] {
                let message = outcome.unwrap_err().to_string();
                assert!(
                    message.starts_with(&path.display().to_string()) && message.contains(part) && message.lines().count() == 1,
                    "{message}"
                );
            }
        };
        fs::create_dir(&path).unwrap();
        fs::write(path.join("queries.jsonl"), "{}").unwrap();
        refused("not empty (it has queries.jsonl)");
        fs::write(path.join("job.json"), r#"{"name": "build"}"#).unwrap();
        refused("a job.json of something else");
        fs::remove_file(path.join("job.json")).unwrap();
        fs::write(path.join("journal.jsonl"), "{\"day\": 1}\n").unwrap();
        refused("not empty (it has journal.jsonl)");
        // A job that was killed between its journal and its job.json.
        fs::remove_file(path.join("queries.jsonl")).unwrap();
        for ours in ["", "{\"event\":\"asked\",\"id\":\"a\",\"aside\":1}\n", "{\"event\":\"asked\",\"id\":\"a\",\"as"] {
            fs::write(path.join("journal.jsonl"), ours).unwrap();
            Folder::open(&path, &json!({})).unwrap();
        }
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        refused("is a file");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join(".hidden"), "").unwrap();
        Folder::open(&path, &json!({})).unwrap();
    }

    #[test]
    fn settings_that_change_questions_are_named_as_flags() {
        let place = tempfile::tempdir().unwrap();
        let identity =
            |per_query: u32, more: Value| json!({ "kind": "negatives", "settings": { "per_query": per_query, "languages": more } });
        let folder = Folder::open(place.path(), &identity(2, json!(null))).unwrap();
        folder.write_job(&json!({ "job": identity(2, json!(null)) })).unwrap();
        Folder::check(place.path(), &identity(2, json!(null))).unwrap();
        let message = Folder::check(place.path(), &identity(1, json!(null))).unwrap_err().to_string();
        assert!(message.contains("a job with --per-query 2, asked for is 1; choose another"), "{message}");
        let message = Folder::check(place.path(), &identity(2, json!(["English"]))).unwrap_err().to_string();
        assert!(message.contains("a job with --languages none, asked for is [\"English\"]"), "{message}");
    }

    #[test]
    fn rows_are_written_whole() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path(), &json!({})).unwrap();
        let outcome = Outcome { rows: vec![json!({ "a": 1 }), json!({ "a": 2 })], ..Outcome::default() };
        folder.write_outcome("collection/train.jsonl", &outcome).unwrap();
        assert_eq!(fs::read_to_string(place.path().join("collection/train.jsonl")).unwrap(), "{\"a\":1}\n{\"a\":2}\n");
        assert_eq!(fs::read_to_string(place.path().join("rejected.jsonl")).unwrap(), "");
        let names: Vec<_> = fs::read_dir(place.path().join("collection")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["train.jsonl"]);
    }
}
