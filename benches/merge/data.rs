//! What is made once, below one folder: tables as both sides write them, and change files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::Result;
use crate::changes::{Change, ChangeSet, write_dms, write_load, write_net};
use crate::rows::{Kind, Row};
use crate::site::{Site, TableType, files, fresh_copy, remove};
use crate::theirs;

/// Changes when the data change, so that a folder of older data is not taken.
const EDITION: &str = "1";

/// Who wrote a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    Lakemerge,
    Deltalake,
}

impl Writer {
    pub fn name(self) -> &'static str {
        match self {
            Writer::Lakemerge => "lakemerge",
            Writer::Deltalake => "deltalake",
        }
    }
}

/// One table of a number of rows.
#[derive(Clone)]
pub struct Data {
    pub kind: Kind,
    pub rows: u64,
    folder: PathBuf,
}

impl Data {
    pub fn new(root: &Path, kind: Kind, rows: u64) -> Data {
        Data { kind, rows, folder: root.join(format!("{}-{rows}-{EDITION}", kind.table())) }
    }

    /// The Delta table as `writer` wrote it, known to lakemerge. Its files are read once, so that they are in the page
    /// cache.
    pub async fn table(&self, writer: Writer) -> Result<PathBuf> {
        let folder = match writer {
            Writer::Lakemerge => self.by_lakemerge()?,
            Writer::Deltalake => self.adopted(&self.by_deltalake().await?)?,
        };
        for file in files(&folder, ".parquet")? {
            std::io::copy(&mut fs::File::open(file)?, &mut std::io::sink())?;
        }
        Ok(folder)
    }

    /// A folder for the runs of a scenario, which the next one takes.
    pub fn work(&self, name: &str) -> PathBuf {
        self.folder.join("work").join(name)
    }

    /// Removes the folders of all runs.
    pub fn clear(&self) -> Result<()> {
        remove(&self.folder.join("work"))
    }

    /// The LOAD files as DMS writes them. Of events only the first is one; the others bring their rows as inserts.
    pub fn loads(&self) -> Result<PathBuf> {
        self.made("raw", |folder| {
            fs::create_dir_all(folder)?;
            let (files, next) = (self.files(), AtomicU64::new(0));
            let threads = std::thread::available_parallelism()?.get();
            let write_files = || -> Result<()> {
                loop {
                    let file = next.fetch_add(1, Ordering::Relaxed);
                    if file >= files {
                        return Ok(());
                    }
                    self.write_load(file, folder)?;
                }
            };
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(write_files)).collect();
                workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a writer panicked")?)
            })
        })
    }

    /// The changes as a DMS file and as Parquet.
    pub fn changes(&self, set: &ChangeSet) -> Result<(Vec<Change>, PathBuf, PathBuf)> {
        let changes = set.changes(self.kind, self.rows);
        let folder = self.made(&format!("changes-{}", set.name), |folder| {
            fs::create_dir_all(folder)?;
            write_dms(self.kind, &changes, &folder.join("changes.csv"))?;
            write_net(self.kind, &changes, &folder.join("net.parquet"))
        })?;
        Ok((changes, folder.join("changes.csv"), folder.join("net.parquet")))
    }

    /// Files of a table: ten, or as many as hold a million rows each. Of events five: more files that hold the same keys are
    /// clustered.
    fn files(&self) -> u64 {
        if self.kind == Kind::Events { 5 } else { (self.rows / 1_000_000).max(10) }
    }

    fn write_load(&self, file: u64, folder: &Path) -> Result<()> {
        let per_file = self.rows / self.files();
        let places = file * per_file..(file + 1) * per_file;
        let rows = places.map(|place| Row { number: self.kind.loaded(place), version: 0 });
        if self.kind == Kind::Events && file > 0 {
            let inserts: Vec<_> = rows.map(|row| Change { operation: "I", row }).collect();
            return write_dms(self.kind, &inserts, &folder.join(format!("20290101-{file:09}.csv")));
        }
        write_load(self.kind, &rows.collect::<Vec<_>>(), &folder.join(format!("LOAD{:08X}.csv", file + 1)))
    }

    async fn by_deltalake(&self) -> Result<PathBuf> {
        let (folder, part) = (self.folder.join("by-deltalake"), self.folder.join("by-deltalake.part"));
        if !folder.exists() {
            say(&format!("writing {} rows of {} with deltalake", self.rows, self.kind.table()));
            remove(&part)?;
            theirs::write(self.kind, self.rows, self.files(), &part).await?;
            fs::rename(&part, &folder)?;
        }
        Ok(folder)
    }

    /// A copy that lakemerge has taken over, which is done once in a table's life and not measured.
    fn adopted(&self, table: &Path) -> Result<PathBuf> {
        let folder = self.folder.join("adopted");
        let site = Site::new(&self.work("adopt"), self.kind, TableType::CopyOnWrite)?.with_table(table)?;
        site.adopt()?;
        fresh_copy(&site.table(), &folder)?;
        remove(&self.work("adopt"))?;
        Ok(folder)
    }

    /// Made again when the binary is newer, since how a table lies in its files is part of what is measured.
    fn by_lakemerge(&self) -> Result<PathBuf> {
        let folder = self.folder.join("by-lakemerge");
        let binary = fs::metadata(env!("CARGO_BIN_EXE_lakemerge"))?.modified()?;
        if folder.exists() && fs::metadata(&folder)?.modified()? > binary {
            return Ok(folder);
        }
        remove(&folder)?;
        let loads = self.loads()?;
        say(&format!("loading {} rows of {} with lakemerge", self.rows, self.kind.table()));
        let site = Site::new(&self.work("load"), self.kind, TableType::CopyOnWrite)?;
        let site = match self.kind {
            Kind::Events => self.file_by_file(site, &loads)?,
            Kind::Orders | Kind::Documents => site.with_loads(&loads)?,
        };
        say(&format!("  took {}", site.run()?));
        fresh_copy(&site.table(), &folder)?;
        remove(&self.work("load"))?;
        Ok(folder)
    }

    /// Merges each file by a run of its own, so that the keys of all of them lie among one another.
    fn file_by_file(&self, mut site: Site, loads: &Path) -> Result<Site> {
        let mut loads = files(loads, "")?;
        loads.sort_by_key(|file| (!file.ends_with("LOAD00000001.csv"), file.clone()));
        for (nth, file) in loads.iter().enumerate() {
            if nth > 0 {
                site.run()?;
            }
            site = site.with_load(file)?;
        }
        Ok(site)
    }

    /// The folder `name`, made by `make` unless it is there already; never half.
    fn made(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let (folder, part) = (self.folder.join(name), self.folder.join(format!("{name}.part")));
        if !folder.exists() {
            let start = Instant::now();
            remove(&part)?;
            make(&part)?;
            fs::rename(&part, &folder)?;
            say(&format!("made {} in {:.1} s", folder.display(), start.elapsed().as_secs_f64()));
        }
        Ok(folder)
    }
}

/// Progress.
pub fn say(line: &str) {
    eprintln!("{line}");
}
