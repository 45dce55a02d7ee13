//! What stands in a row: it follows from the row's number and from how often it was changed, so that the sums over a
//! table are known in advance.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::Result;

/// A row: its number, and 0 as it was loaded or what the change put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub number: u64,
    pub version: u64,
}

/// The tables, all of eight columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its key is one number, which grows.
    Orders,
    /// Its key is two texts of 20 characters.
    Documents,
    /// Its key is a UUID of no order, as a text of 36 characters.
    Events,
}

pub const SCHEMA: &str = "bench";

impl Kind {
    pub fn table(self) -> &'static str {
        match self {
            Kind::Orders => "orders",
            Kind::Documents => "documents",
            Kind::Events => "events",
        }
    }

    pub fn key(self) -> &'static [&'static str] {
        match self {
            Kind::Orders | Kind::Events => &["id"],
            Kind::Documents => &["account", "document"],
        }
    }

    pub fn create_table(self) -> String {
        let key = match self {
            Kind::Orders => "id BIGINT NOT NULL PRIMARY KEY, customer_id BIGINT",
            Kind::Documents => {
                "account VARCHAR(20) NOT NULL, document VARCHAR(20) NOT NULL, PRIMARY KEY (account, document)"
            }
            Kind::Events => "id CHAR(36) NOT NULL PRIMARY KEY, customer_id BIGINT",
        };
        format!(
            "CREATE TABLE {SCHEMA}.{} ({key}, status VARCHAR(12), amount DECIMAL(12,2), quantity INT,\n  \
             created DATETIME(6), address VARCHAR(40), comment VARCHAR(100));\n",
            self.table()
        )
    }

    pub fn schema(self) -> SchemaRef {
        let (first, second) = match self {
            Kind::Orders => (("id", DataType::Int64), ("customer_id", DataType::Int64)),
            Kind::Documents => (("account", DataType::Utf8), ("document", DataType::Utf8)),
            Kind::Events => (("id", DataType::Utf8), ("customer_id", DataType::Int64)),
        };
        let columns = [
            first,
            second,
            ("status", DataType::Utf8),
            ("amount", DataType::Decimal128(12, 2)),
            ("quantity", DataType::Int32),
            ("created", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("address", DataType::Utf8),
            ("comment", DataType::Utf8),
        ];
        let fields = columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The number of a table's `place`th row as loaded, in key order. Between two documents there is room for another.
    pub fn loaded(self, place: u64) -> u64 {
        match self {
            Kind::Orders | Kind::Events => place,
            Kind::Documents => 2 * place,
        }
    }

    /// The number of the `nth` row that is inserted into a table of `rows`: orders come at the end, documents anywhere.
    pub fn inserted(self, nth: u64, rows: u64) -> u64 {
        match self {
            Kind::Orders | Kind::Events => rows + nth,
            // the step shares no divisor with a power of ten, so every place comes once
            Kind::Documents => 2 * ((nth * 7_368_787) % rows) + 1,
        }
    }

    pub fn batch(self, rows: &[Row]) -> Result<RecordBatch> {
        let key: [ArrayRef; 2] = match self {
            Kind::Orders => [
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| signed(row.number)))),
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.customer()))),
            ],
            Kind::Documents => [
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| account(row.number)))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| document(row.number)))),
            ],
            Kind::Events => [
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| uuid(row.number)))),
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.customer()))),
            ],
        };
        let amounts = Decimal128Array::from_iter_values(rows.iter().map(|row| row.amount()));
        let created = rows.iter().map(|row| START + signed(row.number * 1_000_000 + row.random(5) % 1_000_000));
        let others: [ArrayRef; 6] = [
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| one_of(&STATUS, row.random(2))))),
            Arc::new(amounts.with_precision_and_scale(12, 2)?),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.quantity()))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(created)),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.address()))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.comment()))),
        ];
        Ok(RecordBatch::try_new(self.schema(), key.into_iter().chain(others).collect())?)
    }
}

impl Row {
    fn customer(self) -> i64 {
        signed(self.random(1) % 1_000_000)
    }

    /// In hundredths.
    pub fn amount(self) -> i128 {
        i128::from(self.random(3) % 10_000_000)
    }

    pub fn quantity(self) -> i32 {
        i32::try_from(self.random(4) % 1000).unwrap_or_default()
    }

    fn address(self) -> String {
        let random = self.random(6);
        let (street, city) = (one_of(&STREETS, random >> 10), one_of(&CITIES, random >> 20));
        format!("{} {street}, {:05} {city}", random % 999 + 1, (random >> 32) % 100_000)
    }

    fn comment(self) -> String {
        let random = self.random(7);
        let word = |shift: u32| one_of(&WORDS, random >> shift);
        format!("{:016x} {} {} {} {:08x}", self.random(8), word(0), word(8), word(16), random >> 32)
    }

    fn random(self, column: u64) -> u64 {
        hash(hash(self.number ^ (self.version << 40)) ^ column)
    }
}

/// 2020-01-01, in microseconds.
const START: i64 = 1_577_836_800_000_000;
const STATUS: [&str; 5] = ["new", "paid", "shipped", "returned", "closed"];
const STREETS: [&str; 6] = ["Market Street", "Long Lane", "Station Road", "High Street", "Mill Lane", "Church Road"];
const CITIES: [&str; 6] = ["Aberdeen", "Bristol", "Cardiff", "Derby", "Exeter", "Glasgow"];
const WORDS: [&str; 8] =
    ["please ring twice", "gift", "fragile", "by hand", "leave at door", "urgent", "", "second try"];

fn one_of<'a>(texts: &[&'a str], random: u64) -> &'a str {
    texts[(random % texts.len() as u64) as usize]
}

/// 20 characters, which order as the numbers do; ten numbers share one.
fn account(number: u64) -> String {
    format!("{:010}-{:09x}", number / 10, hash(number / 10) >> 28)
}

/// 20 characters, which order as the numbers of one account do.
fn document(number: u64) -> String {
    format!("{:04}{:016x}", number % 10_000, hash(number))
}

/// 36 characters, whose order says nothing of the number.
pub fn uuid(number: u64) -> String {
    uuid::Uuid::from_u64_pair(hash(number), hash(!number)).to_string()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// SplitMix64.
pub fn hash(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
