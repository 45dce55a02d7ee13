//! Which files of a table a filter rules out, by what the log says of them, before anything of them is read.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::Field;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::scalar::ScalarValue;

use super::scan::{Bounds, partition_value};
use super::table::{Table, physical_rows};

/// Those of `files` that may hold a row for which all `filters` are true.
pub fn that_may_match(table: &Table, files: &[usize], filters: &[Expr], session: &dyn Session) -> Result<Vec<usize>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(files.to_vec()) };
    let schema = DFSchema::try_from(Arc::clone(&table.schema))?;
    let bounds = files.iter().map(|&file| Bounds::of(&table.files[file])).collect();
    let statistics = LogStatistics { table, files, bounds };
    let may_match = session.create_physical_expr(filter, &schema).and_then(|filter| {
        let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&table.schema)).try_build(filter)?;
        predicate.prune(&statistics)
    });
    // a filter that cannot be asked of bounds rules nothing out: it stands above the scan anyway
    let Ok(may_match) = may_match else { return Ok(files.to_vec()) };
    Ok(files.iter().zip(may_match).filter(|(_, may_match)| *may_match).map(|(file, _)| *file).collect())
}

/// What the log says of some files.
struct LogStatistics<'a> {
    table: &'a Table,
    files: &'a [usize],
    bounds: Vec<Bounds>,
}

impl LogStatistics<'_> {
    /// One end of the bounds of a column in each file, NULL where the log does not say.
    fn ends(&self, column: &Column, end: fn((ScalarValue, ScalarValue)) -> ScalarValue) -> Option<ArrayRef> {
        let field = self.table.schema.field_with_name(column.name()).ok()?;
        let unknown = ScalarValue::try_new_null(field.data_type()).ok()?;
        let constants = self.constants(field);
        let ends = self.bounds.iter().enumerate().map(|(i, bounds)| match &constants {
            Some(constants) => constants[i].clone(),
            None => bounds.column(field).map_or_else(|| unknown.clone(), end),
        });
        ScalarValue::iter_to_array(ends).ok()
    }

    /// The value of a partition column in each file; `None` for another column.
    fn constants(&self, field: &Field) -> Option<Vec<ScalarValue>> {
        let value = |&file: &usize| {
            let text = self.table.files[file].partition_values_map().remove(field.name()).flatten();
            partition_value(text.as_deref(), field.data_type()).ok()
        };
        self.table.is_partition_column(field.name()).then(|| self.files.iter().map(value).collect())?
    }

    fn rows(&self) -> impl Iterator<Item = Option<u64>> + '_ {
        self.files.iter().map(|&file| physical_rows(&self.table.files[file]).ok())
    }
}

impl PruningStatistics for LogStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, |(least, _)| least)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, |(_, most)| most)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let constants = self.constants(self.table.schema.field_with_name(column.name()).ok()?)?;
        let count = |(value, rows): (&ScalarValue, _)| if value.is_null() { rows } else { Some(0) };
        Some(Arc::new(constants.iter().zip(self.rows()).map(count).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.rows().collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
