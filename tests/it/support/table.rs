//! A table of the source, its rows, and how each value is written down.

/// A row as text, one value per column in the table's order; `None` is NULL.
///
/// Each type has one form, which is also the form DMS writes: `2024-01-01 00:00:00.000000`, lower-case hexadecimal,
/// decimals with all digits of their scale.
pub type Row = Vec<Option<String>>;

/// Stands for NULL in [`row`].
pub const NULL: &str = "\u{0}";

pub fn row<const N: usize>(values: [&str; N]) -> Row {
    values.iter().map(|&value| (value != NULL).then(|| value.to_owned())).collect()
}

#[derive(Clone, Debug)]
pub struct Table {
    pub schema: String,
    pub name: String,
    /// Name and MySQL type, then what else the column's line in CREATE TABLE says.
    pub columns: Vec<(String, String)>,
    pub key: Vec<String>,
    /// The key stands in CREATE TABLE as PRIMARY KEY, not in the configuration.
    pub key_is_primary: bool,
    pub partition_by: Vec<String>,
    /// Deleted rows stay.
    pub soft_delete: bool,
    /// Any of `_op`, `_commit_ts` and `_position`.
    pub metadata_columns: Vec<String>,
    /// Further lines of its `[[table]]`.
    pub options: String,
}

impl Table {
    /// `name` is `schema.table`. Without more, the first column is the primary key.
    pub fn new(name: &str, columns: &[(&str, &str)]) -> Self {
        let (schema, name) = name.split_once('.').expect("a name is schema.table");
        Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns: columns.iter().map(|&(name, kind)| (name.to_owned(), kind.to_owned())).collect(),
            key: vec![columns[0].0.to_owned()],
            key_is_primary: true,
            partition_by: vec![],
            soft_delete: false,
            metadata_columns: vec![],
            options: String::new(),
        }
    }

    /// Has no primary key: the configuration names these columns.
    pub fn configured_key(mut self, key: &[&str]) -> Self {
        self.key = key.iter().map(|&name| name.to_owned()).collect();
        self.key_is_primary = false;
        self
    }

    pub fn primary_key(mut self, key: &[&str]) -> Self {
        self.key = key.iter().map(|&name| name.to_owned()).collect();
        self.key_is_primary = true;
        self
    }

    pub fn partitioned_by(mut self, columns: &[&str]) -> Self {
        self.partition_by = columns.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// `schema.table`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// `schema/table`.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.schema, self.name)
    }

    pub fn column_names(&self) -> Vec<&str> {
        self.columns.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The columns of the table in the lake: the source's, then those that lakemerge adds.
    pub fn lake_columns(&self) -> Vec<(String, String)> {
        let deleted = self.soft_delete.then_some("_deleted");
        let added = deleted.into_iter().chain(self.metadata_columns.iter().map(String::as_str));
        let kind = |name: &str| match name {
            "_deleted" => "bit(1)",
            "_commit_ts" => "timestamp(6)",
            _ => "text",
        };
        self.columns.iter().cloned().chain(added.map(|name| (name.to_owned(), kind(name).to_owned()))).collect()
    }

    pub fn key_of(&self, row: &Row) -> Row {
        let position =
            |name: &String| self.columns.iter().position(|(column, _)| column == name).expect("a key column");
        self.key.iter().map(|name| row[position(name)].clone()).collect()
    }

    /// The statement as mysqldump writes it.
    pub fn create_table(&self) -> String {
        let mut lines: Vec<_> = self.columns.iter().map(|(name, kind)| format!("  `{name}` {kind}")).collect();
        if self.key_is_primary {
            let key: Vec<_> = self.key.iter().map(|name| format!("`{name}`")).collect();
            lines.push(format!("  PRIMARY KEY ({})", key.join(",")));
        }
        format!(
            "DROP TABLE IF EXISTS `{0}`;\n/*!40101 SET character_set_client = utf8 */;\nCREATE TABLE `{0}` (\n{1}\n) \
             ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;\n",
            self.name,
            lines.join(",\n")
        )
    }

    /// The `[[table]]` of the configuration.
    pub fn config(&self) -> String {
        let mut text = format!("\n[[table]]\nname = \"{}\"\nschema = \"{}\"\n", self.full_name(), self.schema_file());
        if !self.key_is_primary {
            text += &format!("key = {:?}\n", self.key);
        }
        if !self.partition_by.is_empty() {
            text += &format!("partition_by = {:?}\n", self.partition_by);
        }
        if self.soft_delete {
            text += "delete = \"soft\"\n";
        }
        if !self.metadata_columns.is_empty() {
            text += &format!("metadata_columns = {:?}\n", self.metadata_columns);
        }
        text + &self.options
    }

    pub fn schema_file(&self) -> String {
        format!("{}.sql", self.schema)
    }

    /// A query for all rows, every value as text.
    pub fn select(&self) -> String {
        let columns: Vec<_> = self.lake_columns().iter().map(|(name, kind)| as_text(name, kind)).collect();
        format!("SELECT {} FROM \"{}\".\"{}\"", columns.join(", "), self.schema, self.name)
    }
}

fn as_text(name: &str, kind: &str) -> String {
    if is_binary(kind) {
        format!("encode(\"{name}\", 'hex') AS \"{name}\"")
    } else {
        format!("CAST(\"{name}\" AS VARCHAR) AS \"{name}\"")
    }
}

fn is_binary(kind: &str) -> bool {
    kind.contains("binary") || kind.contains("blob") || kind.starts_with("bit(64)")
}

/// `name = value` in SQL, for a value in the one form of its type.
pub fn equals(name: &str, kind: &str, value: Option<&str>) -> String {
    let Some(value) = value else { return format!("\"{name}\" IS NULL") };
    let literal = match kind.split([' ', '(']).next().expect("a type") {
        _ if is_binary(kind) => format!("X'{value}'"),
        "date" => format!("DATE '{value}'"),
        "datetime" | "timestamp" => format!("TIMESTAMP '{value}'"),
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" | "bit" => value.to_owned(),
        "decimal" if is_number(kind) => value.to_owned(),
        _ => format!("'{}'", value.replace('\'', "''")),
    };
    format!("\"{name}\" = {literal}")
}

/// True for a decimal that Delta has a type for.
fn is_number(decimal: &str) -> bool {
    let precision = decimal.trim_start_matches("decimal(").split(',').next();
    precision.and_then(|text| text.parse().ok()).is_some_and(|precision: u32| precision <= 38)
}

/// What DMS writes or an engine gives for a value, in the one form of its type; `None` for a zero date, which is NULL.
pub fn canonical(text: &str, kind: &str) -> Option<String> {
    if kind.starts_with("date") || kind.starts_with("timestamp") {
        return (!text.starts_with("0000-00-00"))
            .then(|| if kind.starts_with("date ") || kind == "date" { text.to_owned() } else { moment(text) });
    }
    let bits = || text.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16).expect("hexadecimal digits"));
    Some(match kind.split([' ', '(']).next().expect("a type") {
        "float" => text.parse::<f32>().map_or_else(|e| panic!("{text}: {e}"), |value| format!("{value:?}")),
        "double" => text.parse::<f64>().map_or_else(|e| panic!("{text}: {e}"), |value| format!("{value:?}")),
        "bit" if kind.starts_with("bit(1)") => (matches!(text, "1" | "true")).to_string(),
        "bit" if kind.starts_with("bit(64)") => bits().map_or_else(|| text.to_owned(), |bits| format!("{bits:016x}")),
        "bit" => bits().map_or_else(|| text.to_owned(), |bits| bits.to_string()),
        _ => text.to_owned(),
    })
}

fn moment(text: &str) -> String {
    let text = text.trim_end_matches('Z').replace('T', " ");
    let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{seconds}.{fraction:0<6}")
}
