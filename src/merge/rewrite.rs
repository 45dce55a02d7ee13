//! Copy-on-write: the touched files without their located rows, and the new rows.

use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::MemTable;
use deltalake::kernel::Add;
use futures::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use super::row_groups;
use super::upserts::Upserts;
use super::write::{self, Layout, Writer};
use crate::allocator;
use crate::engine::Engine;
use crate::error::Result;
use crate::lake::layers;
use crate::lake::provider::ScanProvider;
use crate::lake::scan::{Rows, Scan};
use crate::lake::table::Table;
use crate::lake::vectors;

/// Writes the files that replace those that `located` names, and the new rows.
pub async fn rewrite(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    located: &Rows,
    upserts: Upserts,
) -> Result<Vec<Add>> {
    let mut touched: Vec<_> = located.keys().copied().collect();
    touched.sort_unstable();
    let old_bytes: i64 = touched.iter().map(|&file| table.files[file].size()).sum();
    let bytes = u64::try_from(old_bytes).unwrap_or_default() + upserts.bytes() as u64;
    // a small table stays a single file; of others each file is rewritten in its own order, and the new rows are sorted apart
    if !touched.is_empty() && bytes <= write::small() {
        return together(engine, table, layout, located, touched, upserts).await;
    }
    let mut dead = vectors::read(table, &touched).await?;
    let files =
        touched.into_iter().map(|file| {
            let (engine, table, layout) = (engine.clone(), table.clone(), layout.clone());
            let dead = dead.remove(&file).unwrap_or_default() | &located[&file];
            // given up where another file fails
            async move {
                SpawnedTask::spawn(async move { without(&engine, &table, &layout, file, &dead).await }).join().await?
            }
        });
    let at_once = allocator::fewer(engine.threads());
    let rewritten = futures::stream::iter(files).buffered(at_once).try_collect::<Vec<_>>();
    let append = write::append(layout, upserts);
    let (added, rewritten) = if allocator::memory_is_scarce() {
        // what the new rows take is gone before
        (append.await?, rewritten.await?)
    } else {
        tokio::try_join!(append, rewritten)?
    };
    Ok(rewritten.into_iter().flatten().chain(added).collect())
}

/// What is left of all `touched` files and the new rows, sorted into one.
async fn together(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    located: &Rows,
    touched: Vec<usize>,
    upserts: Upserts,
) -> Result<Vec<Add>> {
    let mut writer = Writer::instead_of(&touched, table, layout);
    let kept = Scan::without(table, touched, located.clone());
    let session = engine.session();
    let mut rows = session.read_table(Arc::new(ScanProvider(kept)))?;
    if upserts.count() > 0 {
        let upserts = upserts.chunks(layout).collect::<Result<_>>()?;
        let new = MemTable::try_new(Arc::clone(&layout.schema), vec![upserts])?;
        rows = rows.union(session.read_table(Arc::new(new))?)?;
    }
    writer.write_sorted(engine, rows.execute_stream().await?).await?;
    writer.close().await
}

/// What is left of one file, in its order, without the rows that are `dead`, those of its vector among them: by row groups,
/// or row by row where its columns are others.
pub async fn without(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    file: usize,
    dead: &RoaringTreemap,
) -> Result<Vec<Add>> {
    let mut added = match row_groups::without(engine, table, layout, file, dead).await? {
        Some(added) => added,
        None => row_by_row(engine, table, layout, file, dead.clone()).await?,
    };
    layers::stay(&table.files[file], &mut added);
    Ok(added)
}

async fn row_by_row(
    engine: &Engine,
    table: &Table,
    layout: &Layout,
    file: usize,
    dead: RoaringTreemap,
) -> Result<Vec<Add>> {
    let kept = Scan::without(table, vec![file], Rows::from([(file, dead)]));
    // one stream in file order, past the optimizer, which would read the file in parallel pieces
    let task = engine.session().task_ctx();
    let rows = kept.plan(None, None, 1, &task.runtime_env()).await?.execute(0, task)?;
    let mut writer = Writer::instead_of(&[file], table, layout);
    writer.write_all(rows).await?;
    writer.close().await
}
