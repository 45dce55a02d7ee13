//! The folder for what does not fit into memory. A process that is killed leaves its own behind, which may be as large as
//! the disk; the next one removes it.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

/// What the names of such folders begin with.
const PREFIX: &str = "lakemerge-spill-";

/// The file in a folder that is locked while its process lives. A lock of the folder itself would hold for one machine
/// alone where several share it.
const LOCK: &str = "lock";

/// A folder whose lock is younger may not be locked yet.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder that is this process's own, until it is dropped.
pub struct SpillFolder {
    folder: TempDir,
    /// Locked until the process ends, however it does.
    _locked: File,
}

impl SpillFolder {
    /// Makes one in the folder `temporary`, and removes those of processes that are no more. `None` where no folder can be
    /// made or locked.
    pub fn create(temporary: &Path) -> Option<SpillFolder> {
        remove_left(temporary);
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix(PREFIX).permissions(private).tempdir_in(temporary).ok()?;
        // NFS locks what may be written
        let lock = OpenOptions::new().write(true).create_new(true).open(folder.path().join(LOCK)).ok()?;
        lock.try_lock().ok()?;
        Some(SpillFolder { folder, _locked: lock })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders whose lock nobody holds.
fn remove_left(temporary: &Path) {
    let Ok(entries) = temporary.read_dir() else { return };
    for entry in entries.flatten() {
        let is_named_so = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_named_so
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(_locked) = lock_of_nobody(&entry.path())
        {
            tracing::debug!("removing {}, which a process that was killed left", entry.path().display());
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The lock of a folder, if its process is no more.
fn lock_of_nobody(folder: &Path) -> Option<File> {
    let path = folder.join(LOCK);
    let data = path.symlink_metadata().ok().filter(|data| data.is_file())?;
    let age = data.modified().ok()?.elapsed().ok()?;
    let lock = OpenOptions::new().write(true).open(path).ok().filter(|_| age > YOUNG)?;
    lock.try_lock().ok().map(|()| lock)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::now() - 2 * YOUNG;
        let folder = |name: &str, file: &str| {
            let path = temporary.path().join(name);
            std::fs::create_dir(&path).unwrap();
            File::create(path.join(file)).unwrap().set_modified(long_ago).unwrap();
            path
        };
        let left = folder("lakemerge-spill-left", LOCK);
        let others = [folder("another", LOCK), folder("lakemerge-spill-no-lock", "rows")];
        let living = SpillFolder::create(temporary.path()).unwrap();
        File::options().write(true).open(living.path().join(LOCK)).unwrap().set_modified(long_ago).unwrap();
        let own = SpillFolder::create(temporary.path()).unwrap();
        assert!(!left.exists());
        assert!(others.iter().all(|folder| folder.exists()) && living.path().exists() && own.path().exists());
        let path = own.path().to_owned();
        drop(own);
        assert!(!path.exists());
    }
}
