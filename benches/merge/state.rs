//! What a table holds, in few numbers: a benchmark that compares different results is worthless.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Decimal128Type, Int64Type};
use datafusion::prelude::SessionContext;

use crate::Result;
use crate::changes::Change;
use crate::rows::{Kind, Row};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    rows: i64,
    /// In hundredths.
    amount: i128,
    quantity: i64,
}

impl State {
    pub fn add(&mut self, row: Row) {
        self.rows += 1;
        self.amount += row.amount();
        self.quantity += i64::from(row.quantity());
    }

    /// The state of the Delta table in `folder`, as deltalake's own reader sees it.
    pub async fn of(folder: &Path) -> Result<State> {
        let table = deltalake::open_table(crate::theirs::url(folder)?).await?;
        let session = SessionContext::new();
        session.register_table("t", table.table_provider().await?)?;
        let sums = session.sql("SELECT count(*), sum(amount), sum(quantity) FROM t").await?.collect().await?;
        let row = sums.first().ok_or("an aggregate without a row")?;
        Ok(State {
            rows: row.column(0).as_primitive::<Int64Type>().value(0),
            amount: row.column(1).as_primitive::<Decimal128Type>().value(0),
            quantity: row.column(2).as_primitive::<Int64Type>().value(0),
        })
    }

    /// # Errors
    /// If the table in `folder` holds anything else.
    pub async fn check(&self, folder: &Path, whose: &str) -> Result<()> {
        let found = State::of(folder).await?;
        if found == *self {
            return Ok(());
        }
        Err(format!("{whose} left {found} in {}, and it should be {self}", folder.display()).into())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.amount / 100, self.amount % 100);
        write!(f, "{} rows of {whole}.{hundredths:02} and quantity {}", self.rows, self.quantity)
    }
}

/// A table in mind, to which changes are applied one by one.
pub struct Model {
    kind: Kind,
    rows: u64,
    /// The version of every row that a change named; `None` once it is deleted.
    touched: HashMap<u64, Option<u64>>,
}

impl Model {
    /// The table as it was loaded.
    pub fn new(kind: Kind, rows: u64) -> Model {
        Model { kind, rows, touched: HashMap::new() }
    }

    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            let now = (change.operation != "D").then_some(change.row.version);
            self.touched.insert(change.row.number, now);
        }
    }

    pub fn state(&self) -> State {
        let mut state = State::default();
        let loaded = (0..self.rows).map(|place| self.kind.loaded(place));
        for number in loaded.filter(|number| !self.touched.contains_key(number)) {
            state.add(Row { number, version: 0 });
        }
        for (&number, &version) in &self.touched {
            if let Some(version) = version {
                state.add(Row { number, version });
            }
        }
        state
    }
}
