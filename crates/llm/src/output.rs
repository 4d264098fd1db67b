//! The folder of a job: what it is, written before it begins; rows and rejected answers, each file written whole, when it ends.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;

use crate::{error::LlmError, jobs::Outcome};

/// The folder of one job.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder, or goes on with one that holds the same job: `identity` is an object of what must not change, such as kind, data and
    /// model.
    ///
    /// # Errors
    /// When the folder cannot be made, or holds another job.
    pub fn open(path: &Path, identity: &Value) -> Result<Self, LlmError> {
        fs::create_dir_all(path).map_err(LlmError::io(path))?;
        Self::check(path, identity)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Looks whether a folder holds no job or this one, and changes nothing.
    ///
    /// # Errors
    /// When it holds another job, or cannot be read.
    pub fn check(path: &Path, identity: &Value) -> Result<(), LlmError> {
        let file = path.join("job.json");
        match fs::read(&file) {
            Ok(bytes) => {
                let known: Value = serde_json::from_slice(&bytes).map_err(|error| LlmError::Text {
                    place: file.display().to_string(),
                    problem: error.to_string(),
                    expected: "what this program wrote".into(),
                })?;
                let names = identity.as_object().map(|it| it.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
                if let Some(name) = names.iter().find(|name| known["job"][name.as_str()] != identity[name.as_str()]) {
                    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    return Err(LlmError::OtherJob {
                        path: path.to_owned(),
                        what: name.clone(),
                        there: shown(&known["job"][name.as_str()]),
                        asked: shown(&identity[name.as_str()]),
                    });
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(LlmError::io(&file)(error)),
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
