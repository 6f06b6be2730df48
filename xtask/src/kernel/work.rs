//! Where kernels come to be that nobody keeps.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::build::remove;
use super::{Fault, cache};

/// A directory of the cache, empty at first and removed at the end, that nobody else has meanwhile.
#[derive(Debug)]
pub(super) struct Work {
    path: PathBuf,
    _lock: File,
}

impl Work {
    /// Waits for whoever has it. It is always at the same place, which ccache takes for a part of what
    /// is compiled.
    pub(super) fn begin(name: &str) -> Result<Self, Fault> {
        let path = cache()?.join(name);
        let failed = |error: std::io::Error| format!("cannot make {}: {error}", path.display());
        fs::create_dir_all(cache()?).map_err(failed)?;
        let lock = File::create(path.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        remove(&path)?;
        fs::create_dir(&path).map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(fault) = remove(&self.path) {
            eprintln!("warning: {fault}");
        }
    }
}
