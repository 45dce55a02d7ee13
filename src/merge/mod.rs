//! How a batch of changes becomes the actions of one commit: [`net`](net::net) → [`locate`](locate::locate) →
//! [`complete`](complete::complete) → [`rewrite`](rewrite::rewrite) or [`mark`](vectors::mark) and
//! [`append`](write::append); and how a full load becomes a new table ([`load`](load::load)).
//!
//! A batch that does not fit the [`memory`] is sorted by key, spilling to disk, and goes the same way part by part.

mod among;
mod bloom;
pub mod complete;
mod cutting;
mod data_file;
pub mod load;
pub mod locate;
pub mod memory;
pub mod net;
pub mod order;
mod pages;
mod pieces;
pub mod rewrite;
mod row_groups;
mod skipping;
mod sort;
pub mod upserts;
pub mod vectors;
pub mod write;

use std::ops::Range;

use datafusion::arrow::array::RecordBatch;
use deltalake::kernel::{Action, Add};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::allocator;
use crate::dms::changes::ChangeRows;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lake::TableType;
use crate::lake::scan::Rows;
use crate::lake::table::Table;
use complete::Completed;
use locate::Located;
use memory::Held;
use net::{Net, Outcome, Values};
use upserts::Upserts;
use write::Layout;

/// What becomes of the changes of one commit. They add up: `read = inserted + updated + deleted + netted_away +
/// absent_deletes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: u64,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Changes that a later one of the same row outdates.
    pub netted_away: u64,
    /// Deletes of rows that are not there.
    pub absent_deletes: u64,
    /// Rows that an update of their key took away; the update itself counts by the row it left behind.
    pub key_updates: u64,
    pub files_added: u64,
    pub files_removed: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.read += other.read;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.netted_away += other.netted_away;
        self.absent_deletes += other.absent_deletes;
        self.key_updates += other.key_updates;
        self.files_added += other.files_added;
        self.files_removed += other.files_removed;
    }
}

/// Data to commit, and what it stands for.
pub struct Merged {
    pub actions: Vec<Action>,
    pub counts: Counts,
    /// True if deletion vectors are among the actions.
    pub vectors: bool,
}

impl Merged {
    /// For a commit that changes no row.
    pub fn nothing() -> Merged {
        Merged { actions: vec![], counts: Counts::default(), vectors: false }
    }

    /// The files that are removed, or get other vectors, and those that are `added`.
    fn of(mut actions: Vec<Action>, added: Vec<Add>, counts: Counts) -> Merged {
        let vectors = actions.iter().any(|action| matches!(action, Action::Add(_)));
        actions.extend(added.into_iter().map(Action::Add));
        let of_kind = |is: fn(&Action) -> bool| actions.iter().filter(|action| is(action)).count() as u64;
        let counts = Counts {
            files_added: of_kind(|action| matches!(action, Action::Add(_))),
            files_removed: of_kind(|action| matches!(action, Action::Remove(_))),
            ..counts
        };
        Merged { actions, counts, vectors }
    }
}

/// What two changes of one key, or a change of a row that is there, mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameKey {
    /// The later one stays.
    LaterStays,
    /// They are two rows of a load under a key that the source does not keep unique.
    Refuse,
}

/// Merges `changes`, which come in the order of the source, into `table`.
pub async fn merge(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    changes: BoxStream<'static, Result<ChangeRows>>,
    same_key: SameKey,
) -> Result<Merged> {
    let step = Step { engine, table, layout, same_key };
    match memory::hold(engine, layout, changes).await? {
        Held::All(changes, _reserved) => {
            let net = net_of(engine, layout, changes, 0).await?;
            if step.new_rows_are_known(&net) {
                return step.mark_and_append(&net).await;
            }
            let located = step.located(&net).await?;
            match step.upserts(&net, &located, 0..net.outcomes.len()).await? {
                Some(upserts) => {
                    let counts = count(&net, &located.changes);
                    drop(net);
                    step.finish(located.rows, upserts, counts, vec![]).await
                }
                None => step.in_parts(futures::stream::once(async { Ok(net) }).boxed()).await,
            }
        }
        Held::First(first, rest) => {
            let parts = memory::by_key(engine, layout, first, rest)?;
            let nets = parts.and_then(|memory::Part { changes, outdated }| net_of(engine, layout, changes, outdated));
            step.in_parts(nets.boxed()).await
        }
    }
}

/// What a batch comes to, as far as that can be told without writing.
#[derive(Debug, Default)]
pub struct Foreseen {
    pub read: u64,
    pub netted_away: u64,
    /// The rows of the table that the batch names.
    pub located: Rows,
}

/// Nets `changes` and locates their rows in `table` if there is one, as [`merge`] does. Nothing is written.
pub async fn foresee(
    engine: &Engine,
    table: Option<&Table>,
    layout: &Layout,
    changes: BoxStream<'static, Result<ChangeRows>>,
    same_key: SameKey,
) -> Result<Foreseen> {
    let (mut parts, _reserved) = match memory::hold(engine, layout, changes).await? {
        Held::All(changes, reserved) => {
            let all = memory::Part { changes, outdated: 0 };
            (futures::stream::once(async { Ok(all) }).boxed(), Some(reserved))
        }
        Held::First(first, rest) => (memory::by_key(engine, layout, first, rest)?, None),
    };
    let mut foreseen = Foreseen::default();
    while let Some(memory::Part { changes, outdated }) = parts.try_next().await? {
        let net = net_of(engine, layout, changes, outdated).await?;
        foreseen.read += net.read;
        foreseen.netted_away += net.netted_away;
        if let Some(table) = table {
            let step = Step { engine, table, layout, same_key };
            for (file, rows) in step.located(&net).await?.rows {
                *foreseen.located.entry(file).or_default() |= rows;
            }
        }
    }
    Ok(foreseen)
}

/// Nets `changes`, beside which there were so many that these `outdated` before.
async fn net_of(engine: &Engine, layout: &Layout, changes: Vec<ChangeRows>, outdated: u64) -> Result<Net> {
    let (layout, threads) = (layout.clone(), engine.threads());
    let net = spawn_blocking(move || net::net(&layout, changes, threads)).await??;
    Ok(Net { read: net.read + outdated, netted_away: net.netted_away + outdated, ..net })
}

/// What merging a batch is about.
struct Step<'a> {
    engine: &'a Engine,
    table: &'a Table,
    layout: &'a Layout,
    same_key: SameKey,
}

impl Step<'_> {
    /// Some of the rows that `net` leaves behind, of which the keys were `located`; `None` if there is no memory for so many.
    async fn upserts(&self, net: &Net, located: &Located, outcomes: Range<usize>) -> Result<Option<Upserts>> {
        let outcomes = &net.outcomes[outcomes];
        // their numbers ascend
        let mut partial = outcomes.iter().filter_map(|outcome| match outcome.values {
            Values::Change(_) => None,
            Values::Partial(number) => Some(number as usize),
        });
        let first = partial.next();
        let partial = first.map_or(0..0, |first| first..partial.next_back().unwrap_or(first) + 1);
        let completed = complete::complete(self.engine, self.table, self.layout, net, located, partial).await?;
        let of = |completed| Upserts::new(self.layout, net, outcomes, &completed, self.engine.threads());
        completed.map(of).transpose()
    }

    /// True if what is located has no say in the new rows: they lie in files of their own, whole, under any key.
    fn new_rows_are_known(&self, net: &Net) -> bool {
        self.layout.table_type == TableType::MergeOnRead
            && self.same_key == SameKey::LaterStays
            && net.partial.is_empty()
    }

    /// Writes the new rows while it locates and marks the old ones.
    async fn mark_and_append(&self, net: &Net) -> Result<Merged> {
        let upserts = Upserts::new(self.layout, net, &net.outcomes, &Completed::default(), self.engine.threads())?;
        let mark = async {
            let located = self.located(net).await?;
            Ok((count(net, &located.changes), vectors::mark(self.table, &located.rows).await?))
        };
        // what is written first goes to other threads
        let (added, (counts, marked)) = tokio::try_join!(write::append(self.layout, upserts), mark)?;
        Ok(Merged::of(marked, added, counts))
    }

    async fn located(&self, net: &Net) -> Result<Located> {
        let addresses = !net.partial.is_empty();
        let located = locate::locate(self.engine, self.table, &self.layout.key, &net.keys, addresses).await?;
        if self.same_key == SameKey::Refuse && (net.netted_away > 0 || !located.changes.is_empty()) {
            return Err(load::double_key_across_runs(self.layout, net, &located.changes)?);
        }
        Ok(located)
    }

    /// Merges a batch that is too large for the memory in parts, which come by key.
    async fn in_parts(&self, mut nets: BoxStream<'_, Result<Net>>) -> Result<Merged> {
        let (mut located, mut counts) = (Rows::new(), Counts::default());
        let (upserts, rows) = mpsc::channel(1);
        let merge = async {
            // dropped at its end, so that the writer ends too
            let upserts = upserts;
            while let Some(net) = nets.try_next().await? {
                let of_part = self.located(&net).await?;
                counts.add(count(&net, &of_part.changes));
                self.send(&net, &of_part, &upserts).await?;
                for (file, rows) in of_part.rows {
                    *located.entry(file).or_default() |= rows;
                }
            }
            Ok(())
        };
        let ((), added) = tokio::try_join!(merge, load::write(self.engine, self.layout, rows))?;
        self.finish(located, Upserts::default(), counts, added).await
    }

    /// Sends the rows that `net` leaves behind, as many at a time as there is memory to complete.
    async fn send(&self, net: &Net, located: &Located, to: &mpsc::Sender<Result<RecordBatch>>) -> Result<()> {
        let (mut first, mut at_once) = (0, net.outcomes.len());
        while first < net.outcomes.len() {
            let end = net.outcomes.len().min(first + at_once);
            let Some(upserts) = self.upserts(net, located, first..end).await? else {
                if at_once == 1 {
                    return Err(Error::definite(
                        "a row whose values the batch does not hold (CsvNoSupValue, or delete = \"soft\") does not fit in \
                         run.memory_limit; raise it",
                    ));
                }
                at_once = (end - first).div_ceil(4);
                continue;
            };
            for batch in upserts.chunks(self.layout) {
                if to.send(batch).await.is_err() {
                    // the writer has its own error to tell
                    return Ok(());
                }
            }
            first = end;
        }
        Ok(())
    }

    /// The actions of the commit.
    async fn finish(&self, located: Rows, upserts: Upserts, counts: Counts, written: Vec<Add>) -> Result<Merged> {
        let (table, layout) = (self.table, self.layout);
        let (actions, added) = match layout.table_type {
            TableType::CopyOnWrite => {
                // what locating took is not kept beside what rewriting takes
                allocator::return_all();
                let added = rewrite::rewrite(self.engine, table, layout, &located, upserts).await?;
                let removed = located.keys().map(|&file| Action::Remove(table.files[file].remove_action(true)));
                (removed.collect::<Vec<_>>(), added)
            }
            TableType::MergeOnRead => {
                let append = write::append(layout, upserts);
                tokio::try_join!(vectors::mark(table, &located), append)?
            }
        };
        Ok(Merged::of(actions, written.into_iter().chain(added).collect(), counts))
    }
}

/// A key update counts by its new row; the row that it takes away counts as nothing of its own.
fn count(net: &Net, located: &RoaringTreemap) -> Counts {
    let deletes = &net.deletes - &net.moved;
    let outcomes = net.read - net.netted_away;
    let deleted = deletes.intersection_len(located);
    let updated = (located - &net.moved).len() - deleted;
    // a delete of a row that is not there changes nothing, unless its row is in the batch and stays, marked
    let kept = |outcome: &&Outcome| match outcome.values {
        Values::Change(_) => deletes.contains(outcome.change.into()),
        Values::Partial(number) => {
            let row = &net.partial[number as usize];
            (!row.is_open() || located.contains(row.base)) && deletes.contains(outcome.change.into())
        }
    };
    let some_are_kept = net.outcomes.len() as u64 + net.deletes.len() > net.keys.num_rows() as u64;
    let kept: RoaringTreemap = match some_are_kept {
        true => net.outcomes.iter().filter(kept).map(|outcome| u64::from(outcome.change)).collect(),
        false => RoaringTreemap::new(),
    };
    let absent_deletes = (&deletes - located - kept).len();
    let inserted = outcomes - updated - deleted - absent_deletes;
    Counts {
        read: net.read,
        inserted,
        updated,
        deleted,
        netted_away: net.netted_away,
        absent_deletes,
        key_updates: net.moved.intersection_len(located),
        ..Counts::default()
    }
}
