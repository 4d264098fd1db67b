//! Files and folders that appear whole or not at all.
//!
//! Content goes to a temporary name beside the target, is synced, then renamed. On failure the temporary is removed and the
//! target is as it was.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::error::CorpusError;

/// Where the content of `path` goes.
pub enum Target {
    /// To a temporary name beside this file, the one that a link leads to, and then into its place.
    Replaced(PathBuf),
    /// To what is there: a pipe or a device cannot be replaced, and nobody would read what took its place.
    InPlace,
}

impl Target {
    /// Looks what is there.
    pub fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) if !found.is_file() && !found.is_dir() => Self::InPlace,
            _ => Self::Replaced(fs::canonicalize(path).unwrap_or_else(|_| match fs::read_link(path) {
                // It leads to nothing yet.
                Ok(to) => parent(path).join(to),
                Err(_) => path.to_owned(),
            })),
        }
    }
}

/// Writes a file through `fill`, creating its folder if need be.
pub(super) fn file<T>(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<T, CorpusError>) -> Result<T, CorpusError> {
    let Target::Replaced(path) = Target::of(path) else {
        let mut out = BufWriter::new(File::options().write(true).open(path).map_err(CorpusError::io(path))?);
        let value = fill(&mut out)?;
        out.flush().map_err(CorpusError::io(path))?;
        return Ok(value);
    };
    let path = path.as_path();
    let folder = parent(path);
    fs::create_dir_all(folder).map_err(CorpusError::io(folder))?;
    let temporary = temporary(path)?;
    let written = fill_file(&temporary, fill).and_then(|value| {
        fs::rename(&temporary, path).map_err(CorpusError::io(path))?;
        sync_folder(folder)?;
        Ok(value)
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes a folder through `fill`, which is given the temporary folder. The target must not exist, or be an empty folder.
pub(super) fn folder(path: &Path, fill: impl FnOnce(&Path) -> Result<(), CorpusError>) -> Result<(), CorpusError> {
    let occupied = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.exists(),
    };
    if occupied {
        return Err(CorpusError::Unwritable {
            path: path.to_owned(),
            what: "here: the folder is not empty".into(),
            remedy: "name a new folder",
        });
    }
    let outer = parent(path);
    fs::create_dir_all(outer).map_err(CorpusError::io(outer))?;
    let temporary = temporary(path)?;
    let made = fs::create_dir(&temporary).map_err(CorpusError::io(&temporary)).and_then(|()| fill(&temporary)).and_then(|()| {
        sync_folder(&temporary)?;
        if path.is_dir() {
            // Only an empty folder can be removed so.
            fs::remove_dir(path).map_err(CorpusError::io(path))?;
        }
        fs::rename(&temporary, path).map_err(CorpusError::io(path))?;
        sync_folder(outer)
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    made
}

fn fill_file<T>(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<T, CorpusError>) -> Result<T, CorpusError> {
    let file = File::create(path).map_err(CorpusError::io(path))?;
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let value = fill(&mut out)?;
    let file = out.into_inner().map_err(|error| CorpusError::io(path)(error.into_error()))?;
    file.sync_all().map_err(CorpusError::io(path))?;
    Ok(value)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary(path: &Path) -> Result<PathBuf, CorpusError> {
    let name = path.file_name().ok_or_else(|| CorpusError::Unwritable {
        path: path.to_owned(),
        what: "to a path without a name".into(),
        remedy: "name a file or folder",
    })?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(hidden))
}

/// Makes a rename durable; folders cannot be synced everywhere (Windows), and then the rename alone has to do.
///
/// # Errors
/// When the system says so.
pub fn sync_folder(path: &Path) -> Result<(), CorpusError> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(CorpusError::io(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_a_device_is_written_to() {
        let place = tempfile::tempdir().unwrap();
        let (real, link) = (place.path().join("real"), place.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let write = |path: &Path| file(path, |out| out.write_all(b"new").map_err(CorpusError::io(path)));
        write(&link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
        let (later, link) = (place.path().join("later"), place.path().join("other"));
        std::os::unix::fs::symlink("later", &link).unwrap();
        write(&link).unwrap();
        assert_eq!(fs::read(&later).unwrap(), b"new");
        write(Path::new("/dev/null")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(matches!(Target::of(&place.path().join("none")), Target::Replaced(_)));
    }
}
