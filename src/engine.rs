//! DataFusion, set up once: one memory budget and one spill folder for all tables, one session for each piece of work.

use std::sync::Arc;

use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::storage::Location;

/// Raw files that are fetched before their turn may take this part of the memory limit: typed, their rows take a few
/// times as much.
const RAW: usize = 16;

/// Pieces of data files that are rewritten may take this part of the pool: sorts of other tables share it.
const REWRITING: usize = 2;

/// Rows that are sorted may take this part of the pool.
const SORTING: usize = 2;

/// What sessions share.
#[derive(Clone)]
pub struct Engine {
    runtime: Arc<RuntimeEnv>,
    /// What changes take that are held until they are merged.
    changes: Arc<dyn MemoryPool>,
    changes_memory: usize,
    in_flight: Budget,
    rewriting: Budget,
    /// Of pieces of data files that are encoded, one for each thread.
    cores: Arc<Semaphore>,
    threads: usize,
    memory: usize,
}

impl Engine {
    /// DataFusion's operators and the readers and writers of data files get half of the memory limit, and changes that are
    /// held a quarter; the rest is for what no pool sees: unpacked pages and raw records.
    pub fn new(lake: &Location, memory_limit: usize, threads: usize) -> Result<Engine> {
        // Greedy: a fair pool divides by consumers that may never ask, and can then starve the one that does (T-A26).
        let pool = GreedyMemoryPool::new(memory_limit / 2);
        // what does not fit into memory may take as much of the disk as there is
        let disk = DiskManagerBuilder::default().with_max_temp_directory_size(u64::MAX);
        let builder = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk);
        let runtime = builder.build_arc()?;
        runtime.register_object_store(&lake.store_url()?, Arc::clone(&lake.store));
        let changes_memory = changes_memory(memory_limit);
        let changes = Arc::new(GreedyMemoryPool::new(changes_memory));
        let in_flight = Budget::new(memory_limit / RAW);
        let rewriting = Budget::new(memory_limit / 2 / REWRITING);
        let (cores, memory) = (Arc::new(Semaphore::new(threads.max(1))), memory_limit / 2);
        Ok(Engine { runtime, changes, changes_memory, in_flight, rewriting, cores, threads, memory })
    }

    /// Bytes that DataFusion's operators share.
    pub fn memory(&self) -> usize {
        self.memory
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

    /// Waits until there is room for so many bytes of data files that are rewritten, or for as many as there ever may be.
    pub async fn room(&self, bytes: u64) -> Result<Room> {
        let permit = self.rewriting.take(bytes).await?;
        let reserved = MemoryConsumer::new("rewriting").register(&self.runtime.memory_pool);
        reserved.grow(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Room { _permit: permit, _reserved: reserved })
    }

    /// Waits until no more pieces of data files are being encoded than there are threads.
    pub async fn core(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.cores).acquire_owned().await.map_err(Error::definite)
    }

    /// For changes that are held until they are merged; what does not fit is to be spilled.
    pub fn reserve_changes(&self) -> MemoryReservation {
        MemoryConsumer::new("changes").register(&self.changes)
    }

    /// How many bytes of changes are held at most, over all tables.
    pub fn changes_memory(&self) -> usize {
        self.changes_memory
    }

    /// How many bytes rows take at most that are being sorted.
    pub fn sort_memory(&self) -> usize {
        self.memory / SORTING
    }

    /// Pieces of work that are worth doing at once.
    pub fn threads(&self) -> usize {
        self.threads
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
        self.session_with(config)
    }

    /// A session with a configuration that begins as [`Engine::config`].
    pub fn session_with(&self, config: SessionConfig) -> SessionContext {
        SessionContext::new_with_config_rt(config, Arc::clone(&self.runtime))
    }

    pub fn config(&self) -> SessionConfig {
        SessionConfig::new()
            .with_target_partitions(self.threads)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
    }
}

/// A share of the memory, until it is dropped.
pub struct Room {
    _permit: OwnedSemaphorePermit,
    _reserved: MemoryReservation,
}

/// A test may make it small, to see changes spilled without writing many; release builds have no such door.
fn changes_memory(memory_limit: usize) -> usize {
    #[cfg(debug_assertions)]
    if let Some(bytes) = std::env::var("LAKEMERGE_TEST_CHANGES_MEMORY").ok().and_then(|text| text.parse().ok()) {
        return bytes;
    }
    memory_limit / 4
}

/// `name` as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
