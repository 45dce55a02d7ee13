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
        text
    }

    pub fn schema_file(&self) -> String {
        format!("{}.sql", self.schema)
    }

    /// A query for all rows, every value as text.
    pub fn select(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(name, kind)| as_text(name, kind)).collect();
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
    kind.contains("binary") || kind.contains("blob")
}

/// What an engine gives for a value, in the one form of its type.
pub fn canonical(text: &str, kind: &str) -> String {
    if !kind.starts_with("datetime") && !kind.starts_with("timestamp") {
        return text.to_owned();
    }
    let text = text.trim_end_matches('Z').replace('T', " ");
    let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{seconds}.{fraction:0<6}")
}
