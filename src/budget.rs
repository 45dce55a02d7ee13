//! Memory that is waited for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// So many bytes for several to share: who finds too few left waits until others give theirs back.
#[derive(Clone)]
pub struct Budget {
    bytes: u32,
    permits: Arc<Semaphore>,
}

impl Budget {
    pub fn new(bytes: usize) -> Budget {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Budget { bytes, permits: Arc::new(Semaphore::new(bytes as usize)) }
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// Takes so many bytes, or all of them where that is less, until what it gives is dropped.
    pub async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes);
        Arc::clone(&self.permits).acquire_many_owned(bytes).await.map_err(Error::definite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_for_more_than_there_is_gets_all_once_the_others_are_done() {
        let budget = Budget::new(10);
        let first = budget.take(4).await.unwrap();
        let all = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(1000).await.map(|all| all.num_permits()) }
        });
        tokio::task::yield_now().await;
        assert!(!all.is_finished());
        drop(first);
        assert_eq!(all.await.unwrap().unwrap(), 10);
    }
}
