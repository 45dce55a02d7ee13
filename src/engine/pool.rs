//! The memory of a query.

use std::fmt;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;

use crate::allocator;

/// What those that can spill may have of it in all, in quarters. DataFusion's fair pool gives them everything, and who cannot
/// spill finds nothing left: the merge of sorted runs, the table of a join, the sums of an aggregate.
const SPILLABLE: usize = 3;

/// So many bytes: who can spill has the same part as others that can, of what those leave that cannot.
#[derive(Debug)]
pub struct QueryPool {
    bytes: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    spillable: usize,
    /// Among how many.
    spillers: usize,
    unspillable: usize,
}

impl QueryPool {
    pub fn new(bytes: usize) -> QueryPool {
        QueryPool { bytes, taken: Mutex::default() }
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.taken.lock().spillers += usize::from(consumer.can_spill());
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.taken.lock().spillers -= usize::from(consumer.can_spill());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.taken.lock().of(reservation) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        *self.taken.lock().of(reservation) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut taken = self.taken.lock();
        let left = if reservation.consumer().can_spill() && reservation.size() > 0 && allocator::is_tight() {
            0
        } else if reservation.consumer().can_spill() {
            let of_all = (self.bytes / 4 * SPILLABLE).min(self.bytes.saturating_sub(taken.unspillable));
            (of_all / taken.spillers.max(1)).saturating_sub(reservation.size())
        } else {
            self.bytes.saturating_sub(taken.spillable + taken.unspillable)
        };
        if additional > left {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} needs {additional} bytes more, and {left} of the memory for queries ({} bytes, half of \
                 run.memory_limit) are left",
                reservation.consumer().name(),
                self.bytes
            )));
        }
        *taken.of(reservation) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let taken = self.taken.lock();
        taken.spillable + taken.unspillable
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

impl Taken {
    fn of(&mut self, reservation: &MemoryReservation) -> &mut usize {
        if reservation.consumer().can_spill() { &mut self.spillable } else { &mut self.unspillable }
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.reserved(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_can_spill_leaves_something_for_who_cannot() {
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(1000));
        let spiller = |name| MemoryConsumer::new(name).with_can_spill(true).register(&pool);
        let (one, other, join) = (spiller("one"), spiller("other"), MemoryConsumer::new("join").register(&pool));
        one.try_grow(375).unwrap();
        assert!(one.try_grow(1).unwrap_err().to_string().contains("one needs 1 bytes more, and 0"));
        other.try_grow(300).unwrap();
        join.try_grow(325).unwrap();
        assert!(join.try_grow(1).is_err());
        assert!(other.try_grow(38).is_err());
        other.free();
        join.try_grow(300).unwrap();
        drop(other);
        // the one that is left could have all that the join leaves
        assert!(one.try_grow(1).is_err());
        join.shrink(125);
        one.try_grow(125).unwrap();
        assert_eq!(pool.reserved(), 1000);
        drop((one, join));
        assert_eq!(pool.reserved(), 0);
    }
}
