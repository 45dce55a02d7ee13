//! The folder for what does not fit into memory. A process that is killed leaves its own behind, which may be as large as
//! the disk; the next one removes it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

/// What the names of such folders begin with.
const PREFIX: &str = "lakemerge-spill-";

/// A folder that is younger may not be locked yet.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder that is this process's own, until it is dropped.
pub struct SpillFolder {
    folder: TempDir,
    /// Locked while the process lives, however it ends.
    _locked: File,
}

impl SpillFolder {
    /// Makes one in the folder `temporary`, and removes those of processes that are no more. `None` where no folder can be
    /// made or locked.
    pub fn create(temporary: &Path) -> Option<SpillFolder> {
        remove_left(temporary);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(temporary).ok()?;
        let locked = File::open(folder.path()).ok()?;
        locked.try_lock().ok()?;
        Some(SpillFolder { folder, _locked: locked })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders that nobody has locked.
fn remove_left(temporary: &Path) {
    let Ok(entries) = temporary.read_dir() else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let age = || entry.metadata().and_then(|data| data.modified()).ok()?.elapsed().ok();
        if is_ours && age().is_some_and(|age| age > YOUNG) {
            let left = File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok());
            if left {
                tracing::debug!("removing {}, which a process that was killed left", entry.path().display());
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::now() - 2 * YOUNG;
        let folder = |name: &str| {
            let path = temporary.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("rows"), "rows").unwrap();
            File::open(&path).unwrap().set_modified(long_ago).unwrap();
            path
        };
        let (left, foreign) = (folder("lakemerge-spill-left"), folder("another"));
        let of_a_living_one = SpillFolder::create(temporary.path()).unwrap();
        File::open(of_a_living_one.path()).unwrap().set_modified(long_ago).unwrap();
        let own = SpillFolder::create(temporary.path()).unwrap();
        assert!(!left.exists());
        assert!(foreign.exists() && of_a_living_one.path().exists() && own.path().exists());
        let path = own.path().to_owned();
        drop(own);
        assert!(!path.exists());
    }
}
