//! Whether the store under a lake honours conditional writes. Every commit stands on them: where two writers can both
//! create one object, two runs commit one version and rows are lost without an error.

use futures::future::join_all;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::storage::Location;

/// Some stores check the condition and write in two steps, which only a race shows.
const RACERS: usize = 8;

/// Lets racers create one object below the lake, which is removed afterwards; exactly one of them must win.
///
/// # Errors
/// A definite error that names the endpoint, if several win or the store knows no conditional writes.
pub async fn conditional_writes(lake: &Location) -> Result<()> {
    let path = lake.prefix.clone().join("_lakemerge").join("probe").join(Uuid::new_v4().to_string());
    let racers = (0..RACERS).map(|racer| {
        let (payload, create) = (PutPayload::from(racer.to_string()), PutMode::Create.into());
        lake.store.put_opts(&path, payload, create)
    });
    let outcomes = join_all(racers).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    if won > 0
        && let Err(error) = lake.store.delete(&path).await
    {
        // what the store does is known all the same, and a role may do without the right to delete
        tracing::warn!("{path}, with which conditional writes were tried, is left behind: {error}");
    }
    match won {
        1 => Ok(()),
        0 => Err(nobody(lake, outcomes.into_iter().filter_map(Result::err).collect())),
        _ => Err(Error::definite(format!(
            "{}: of {RACERS} writers that created one object at the same time with If-None-Match, {won} were told that they \
             had; two runs could then both commit and rows would be lost. Use an endpoint that honours conditional writes, \
             as Amazon S3, MinIO and Ceph do",
            lake.endpoint()
        ))),
    }
}

/// Why no racer won.
fn nobody(lake: &Location, errors: Vec<object_store::Error>) -> Error {
    use object_store::Error as Store;
    let lost = |error: &Store| matches!(error, Store::AlreadyExists { .. } | Store::Precondition { .. });
    match errors.into_iter().find(|error| !lost(error)) {
        Some(Store::NotImplemented { .. }) => Error::definite(format!(
            "{} does not know conditional writes (If-None-Match), without which two runs could both commit; use another \
             endpoint, or unset AWS_CONDITIONAL_PUT",
            lake.endpoint()
        )),
        Some(error) => Error::from(error).at(format!("trying conditional writes at {}", lake.endpoint())),
        None => Error::transient(format!("{}: none of {RACERS} writers could create an object", lake.endpoint())),
    }
}
