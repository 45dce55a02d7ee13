//! How a batch of changes becomes the actions of one commit: [`net`](net::net) → [`locate`](locate::locate) →
//! [`rewrite`](rewrite::rewrite); and how a full load becomes a new table ([`load`](load::load)).

pub mod load;
pub mod locate;
pub mod net;
pub mod rewrite;
mod row_groups;
pub mod soft;
pub mod vectors;
pub mod write;

use deltalake::kernel::Action;
use roaring::RoaringTreemap;

use crate::dms::reading::ChangeRows;
use crate::engine::Engine;
use crate::error::Result;
use crate::lake::TableType;
use crate::lake::table::Table;
use net::Net;
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
    pub files_added: u64,
    pub files_removed: u64,
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
}

/// What two changes of one key, or a change of a row that is there, mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameKey {
    /// The later one stays.
    LaterStays,
    /// They are two rows of a load under a key that the source does not keep unique.
    Refuse,
}

/// Merges `changes`, which are in the order of the source, into `table`.
pub async fn merge(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    changes: Vec<ChangeRows>,
    same_key: SameKey,
) -> Result<Merged> {
    let net = net::net(engine, layout, changes).await?;
    let located = locate::locate(engine, table, &layout.key, &net.keys).await?;
    if same_key == SameKey::Refuse && (net.netted_away > 0 || !located.changes.is_empty()) {
        return Err(load::double_key_across_runs(layout, &net, &located.changes)?);
    }
    let counts = count(&net, &located.changes);
    let mut upserts = net.upserts;
    if layout.keeps_deleted() {
        let deleted = soft::deleted_rows(engine, table, layout, &located, &net.bare).await?;
        if !deleted.is_empty() {
            upserts.extend(deleted);
            upserts = net::sorted(layout, &upserts)?;
        }
    }
    let (mut actions, added) = match layout.table_type {
        TableType::CopyOnWrite => {
            let added = rewrite::rewrite(engine, table, layout, &located.rows, upserts).await?;
            let removed = located.rows.keys().map(|&file| Action::Remove(table.files[file].remove_action(true)));
            (removed.collect::<Vec<_>>(), added)
        }
        TableType::MergeOnRead => {
            tokio::try_join!(vectors::mark(table, &located.rows), write::append(layout, upserts, engine.threads()))?
        }
    };
    let vectors = actions.iter().any(|action| matches!(action, Action::Add(_)));
    actions.extend(added.into_iter().map(Action::Add));
    let of_kind = |is: fn(&Action) -> bool| actions.iter().filter(|action| is(action)).count() as u64;
    let counts = Counts {
        files_added: of_kind(|action| matches!(action, Action::Add(_))),
        files_removed: of_kind(|action| matches!(action, Action::Remove(_))),
        ..counts
    };
    Ok(Merged { actions, counts, vectors })
}

fn count(net: &Net, located: &RoaringTreemap) -> Counts {
    let outcomes = net.read - net.netted_away;
    let deleted = net.deletes.intersection_len(located);
    let updated = located.len() - deleted;
    let absent_deletes = net.bare.changes.iter().filter(|change| !located.contains(**change)).count() as u64;
    let inserted = outcomes - updated - deleted - absent_deletes;
    Counts {
        read: net.read,
        inserted,
        updated,
        deleted,
        netted_away: net.netted_away,
        absent_deletes,
        ..Counts::default()
    }
}
