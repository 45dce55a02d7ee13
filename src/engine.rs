//! DataFusion, set up once: one memory budget and one spill folder for all tables, one session for each piece of work.

pub mod pool;
mod spill;

use std::sync::Arc;

use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::allocator;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::storage::Location;
use pool::QueryPool;
use spill::SpillFolder;

/// Raw files that are fetched before their turn may take this part of the memory limit: typed, their rows take a few
/// times as much.
const RAW: usize = 16;

/// The raw files of a batch may have this part of the memory limit as bytes: their typed rows, keys and new files stand
/// beside each other.
const BATCH: usize = 8;

/// A raw record may take this part of the memory limit.
const RECORD: usize = 64;

/// One step of reading a raw file may take this part of the memory limit.
const STEPS: usize = 64;

/// Pieces of data files that are rewritten may take this part of the pool: sorts of other tables share it.
const REWRITING: usize = 2;

/// Footers of data files that were read are kept in this part of the memory limit, by the count of their library, which is
/// a third of what they take.
const FOOTERS: usize = 32;

/// Rows that are sorted may take this part of the memory limit.
const SORTING: usize = 4;

/// The keys of more changes than that may not fit in one array of texts, which has 31 bits for its length.
const MOST_CHANGES: usize = 2 << 30;

/// With less there is no room for what the allocator keeps of memory that was given back.
const AMPLE: usize = 512 << 20;

/// Where memory is scarce, queries take as many rows at a time: what is sorted and merged is held batch by batch.
const FEW_ROWS: usize = 2048;

/// Where memory is scarce, buffers of as many bytes go back to the system at once.
const LARGE: usize = 1 << 20;

/// What sessions share.
#[derive(Clone)]
pub struct Engine {
    runtime: Arc<RuntimeEnv>,
    memory_limit: usize,
    /// What changes take that are held until they are merged.
    changes: Arc<dyn MemoryPool>,
    in_flight: Budget,
    rewriting: Budget,
    /// Of pieces of data files that are being rewritten: one for each thread, and one that is fetched or written beside.
    pieces: Arc<Semaphore>,
    /// Of data files that pieces are taken of, one at a time: as many as are at work take memory for what they send.
    files: Arc<Semaphore>,
    shared: Shared,
}

/// What all tables share.
#[derive(Clone)]
struct Shared {
    /// Of pieces of data files that are encoded, one for each thread.
    cores: Arc<Semaphore>,
    /// Of tables that are worked on.
    turns: Arc<Semaphore>,
    threads: usize,
    /// Held as long as anything may be spilled.
    _spill: Option<Arc<SpillFolder>>,
}

impl Engine {
    /// An engine for work that shares `memory_limit` bytes among so many tables at once: each has its part of them.
    pub fn new(lake: &Location, memory_limit: usize, threads: usize, at_once: usize) -> Result<Engine> {
        // what does not fit into memory may take as much of the disk as there is
        let mut disk = DiskManagerBuilder::default().with_max_temp_directory_size(u64::MAX);
        let spill = SpillFolder::create(&std::env::temp_dir()).map(Arc::new);
        if let Some(folder) = &spill {
            disk.set_mode(DiskManagerMode::Directories(vec![folder.path().to_owned()]));
        }
        let builder = RuntimeEnvBuilder::new().with_disk_manager_builder(disk);
        let runtime = builder.with_metadata_cache_limit(memory_limit / FOOTERS).build()?;
        runtime.register_object_store(&lake.store_url()?, Arc::clone(&lake.store));
        if memory_limit < AMPLE {
            allocator::return_at_once(LARGE);
        }
        allocator::watch(memory_limit);
        let cores = Arc::new(Semaphore::new(threads.max(1)));
        let shared = Shared { cores, turns: Arc::new(Semaphore::new(at_once)), threads, _spill: spill };
        Ok(Engine::within(&runtime, memory_limit / at_once, shared))
    }

    /// The same for one table, which what others take does not starve.
    pub fn of_its_own(&self) -> Engine {
        Engine::within(&self.runtime, self.memory_limit, self.shared.clone())
    }

    /// DataFusion's operators and the readers and writers of data files get half of the memory limit, and changes that are
    /// held and rows that are sorted a quarter each. Never are all of them full at once, which leaves room for what is not
    /// counted: unpacked pages and raw records.
    fn within(runtime: &RuntimeEnv, memory_limit: usize, shared: Shared) -> Engine {
        let mut runtime = runtime.clone();
        // Greedy: a fair pool divides by consumers that may never ask, and can then starve the one that does (T-A26).
        runtime.memory_pool = Arc::new(GreedyMemoryPool::new(memory_limit / 2));
        Engine {
            runtime: Arc::new(runtime),
            memory_limit,
            changes: Arc::new(GreedyMemoryPool::new(changes_memory(memory_limit))),
            in_flight: Budget::new(memory_limit / RAW),
            rewriting: Budget::new(memory_limit / 2 / REWRITING),
            pieces: Arc::new(Semaphore::new(shared.threads + 1)),
            files: Arc::new(Semaphore::new(1)),
            shared,
        }
    }

    /// Waits until so few tables are being worked on that there is memory for one more.
    pub async fn turn(&self) -> Result<Turn> {
        Ok(Turn { _permit: Arc::clone(&self.shared.turns).acquire_owned().await.map_err(Error::definite)? })
    }

    /// Bytes that the raw files of a batch may have.
    pub fn batch(&self) -> u64 {
        (self.memory_limit / BATCH) as u64
    }

    /// Bytes that a raw record may have: what is cut, typed, sorted and written of it stands beside each other.
    pub fn longest_record(&self) -> usize {
        self.memory_limit / RECORD
    }

    /// Bytes of a raw file that are cut and typed in one step. A few steps are held at a time, and values that were typed may
    /// take several times as much.
    pub fn step(&self) -> usize {
        self.memory_limit / STEPS
    }

    /// Bytes that DataFusion's operators share.
    pub fn memory(&self) -> usize {
        self.memory_limit / 2
    }

    /// The pool of DataFusion's operators and of row groups that are being read or written.
    pub fn pool(&self) -> Arc<dyn MemoryPool> {
        Arc::clone(&self.runtime.memory_pool)
    }

    /// Footers of data files that were read, of a bounded size in all.
    pub fn footers(&self) -> Arc<FileMetadataCache> {
        self.runtime.cache_manager.get_file_metadata_cache()
    }

    /// For raw files that are fetched before their turn.
    pub fn in_flight(&self) -> &Budget {
        &self.in_flight
    }

    /// Waits until there is room for a piece of so many bytes of data files that are rewritten, or for as many as there ever
    /// may be.
    pub async fn room(&self, bytes: u64) -> Result<Room> {
        let piece = Arc::clone(&self.pieces).acquire_owned().await.map_err(Error::definite)?;
        let permit = self.rewriting.take(bytes).await?;
        let reserved = MemoryConsumer::new("rewriting").register(&self.runtime.memory_pool);
        reserved.grow(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Room { _piece: piece, _permit: permit, _reserved: reserved })
    }

    /// Waits until no pieces are to be taken of another data file that is rewritten.
    pub async fn file(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.files).acquire_owned().await.map_err(Error::definite)
    }

    /// Waits until no more pieces of data files are being encoded than there are threads.
    pub async fn core(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.cores).acquire_owned().await.map_err(Error::definite)
    }

    /// For changes that are held until they are merged; what does not fit is to be spilled.
    pub fn reserve_changes(&self) -> MemoryReservation {
        MemoryConsumer::new("changes").register(&self.changes)
    }

    /// How many bytes of changes are held at most.
    pub fn changes_memory(&self) -> usize {
        changes_memory(self.memory_limit)
    }

    /// How many bytes rows take at most that are being sorted.
    pub fn sort_memory(&self) -> usize {
        self.memory_limit / SORTING
    }

    /// Pieces of work that are worth doing at once.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// A session that plans merges: what stands first in a join is hashed, in one piece, and texts keep the type that
    /// the files have, so that keys of both sides are of one type (E-11, E-12).
    pub fn session(&self) -> SessionContext {
        let config = self
            .config()
            .set_usize("datafusion.optimizer.hash_join_single_partition_threshold", usize::MAX)
            .set_usize("datafusion.optimizer.hash_join_single_partition_threshold_rows", usize::MAX)
            .set_bool("datafusion.optimizer.join_reordering", false)
            .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
        SessionContext::new_with_config_rt(config, Arc::clone(&self.runtime))
    }

    /// A session for queries. Here all that asks for much memory can spill, and a pool that is fair makes it do so before it
    /// takes what others need to go on.
    pub fn query_session(&self) -> SessionContext {
        let mut runtime = self.runtime.as_ref().clone();
        runtime.memory_pool = Arc::new(QueryPool::new(self.memory()));
        // a sort that spills needs room for its merge, and each thread would have one of its own
        let config = match allocator::memory_is_scarce() {
            true => self.config().with_batch_size(FEW_ROWS).with_target_partitions(1),
            false => self.config(),
        };
        SessionContext::new_with_config_rt(config, Arc::new(runtime))
    }

    fn config(&self) -> SessionConfig {
        SessionConfig::new()
            .with_target_partitions(self.shared.threads)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
    }
}

/// The right to work on a table, until it is dropped.
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// A share of the memory, until it is dropped.
pub struct Room {
    _piece: OwnedSemaphorePermit,
    _permit: OwnedSemaphorePermit,
    _reserved: MemoryReservation,
}

/// A test may make it small, to see changes spilled without writing many; release builds have no such door.
fn changes_memory(memory_limit: usize) -> usize {
    #[cfg(debug_assertions)]
    if let Some(bytes) = std::env::var("LAKEMERGE_TEST_CHANGES_MEMORY").ok().and_then(|text| text.parse().ok()) {
        return bytes;
    }
    (memory_limit / 4).min(MOST_CHANGES)
}

/// `name` as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
