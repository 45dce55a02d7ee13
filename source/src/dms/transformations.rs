//! The transformation rules of a task's table mappings: what each of them is about, and what it makes of it.
//!
//! Rules name the objects of the source. Of several rules of one kind that match an object only the one with the lowest
//! `rule-id` is carried out (DMS, "Transformation rules and actions").

use serde_json::Value;

use super::mappings::text;
use super::pattern::Pattern;
use crate::name::TableName;
use crate::schema::SqlType;

/// One transformation rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Transformation {
    /// What orders the rules: a `rule-id` that is no number comes last.
    id: u64,
    schema: Pattern,
    /// Those of a rule about schemas match every table.
    table: Pattern,
    column: Pattern,
    pub action: Action,
}

/// What a rule does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Action {
    NameSchema(Naming),
    NameTable(Naming),
    NameColumn(Naming),
    AddColumn(AddedColumn),
    IncludeColumn,
    RemoveColumn,
    ChangeType(SqlType),
    /// A value arrives as the digits of its hash.
    Hash,
    /// The names of the key's columns.
    DefineKey(Vec<String>),
    BeforeImages(BeforeImages),
    /// What changes neither files nor records.
    Nothing,
}

/// What becomes of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    Rename(String),
    Lowercase,
    Uppercase,
    AddPrefix(String),
    RemovePrefix(String),
    ReplacePrefix { old: String, new: String },
    AddSuffix(String),
    RemoveSuffix(String),
    ReplaceSuffix { old: String, new: String },
}

/// A column that the task adds behind those of the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct AddedColumn {
    pub name: String,
    pub sql_type: SqlType,
    pub meaning: Added,
}

/// What an added column tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// Something of the row itself.
    Value,
    /// `$AR_H_CHANGE_SEQ`.
    ChangeSequence,
    /// `operation_indicator(...)`, with the text that marks a delete.
    Indicator(String),
    /// Something else of the change, such as its time.
    OfChange,
}

/// The columns that hold values as they were before an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct BeforeImages {
    pub prefix: String,
    pub suffix: String,
    pub filter: BeforeFilter,
}

/// Which columns have a before image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BeforeFilter {
    PrimaryKey,
    NonLob,
    All,
}

/// The rules that apply to one table, the one that counts first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableRules {
    rules: Vec<Transformation>,
    /// The rules that add columns stand in another order than their numbers: which of the two the records have is not
    /// documented.
    disordered: bool,
}

impl Transformation {
    /// Reads a rule of the type `transformation`.
    pub fn read(rule: &Value) -> Result<Self, String> {
        let locator = rule.get("object-locator").ok_or("it has no object-locator")?;
        let (target, action) = (text(rule, "rule-target")?, text(rule, "rule-action")?);
        let pattern = |member: &str| Ok::<_, String>(Pattern::like(text(locator, member)?));
        let any = || Ok(Pattern::any());
        if locator.get("data-type").and_then(Value::as_str).is_some_and(|wanted| !wanted.is_empty()) {
            return Err(
                "its object-locator has a data-type, and columns are not chosen by it here; name them".to_owned()
            );
        }
        let of_column = matches!(target, "column")
            && !matches!(action, "add-column" | "add-before-image-columns" | "define-primary-key");
        Ok(Self {
            id: identifier(rule),
            schema: if target.ends_with("tablespace") { any() } else { pattern("schema-name") }?,
            table: if matches!(target, "table" | "column") { pattern("table-name") } else { any() }?,
            column: if of_column { pattern("column-name") } else { any() }?,
            action: action_of(rule, target, action)?,
        })
    }

    fn covers(&self, table: &TableName) -> bool {
        self.schema.matches(&table.schema) && self.table.matches(&table.table)
    }

    /// The schema and table that the rule is about, where it names them without wildcards.
    pub fn exact_schema(&self) -> Option<String> {
        self.schema.literal()
    }

    /// As [`Self::exact_schema`].
    pub fn exact_table(&self) -> Option<String> {
        self.table.literal()
    }
}

/// `rule-id` is a string or a number in real configurations.
fn identifier(rule: &Value) -> u64 {
    let id = rule.get("rule-id").and_then(|id| id.as_u64().or_else(|| id.as_str()?.parse().ok()));
    id.unwrap_or(u64::MAX)
}

fn action_of(rule: &Value, target: &str, action: &str) -> Result<Action, String> {
    match (target, action) {
        ("table-tablespace" | "index-tablespace", _) => Ok(Action::Nothing),
        ("table" | "column", "define-primary-key") => define_key(rule),
        ("table" | "column", "add-column") => add_column(rule),
        ("table" | "column", "add-before-image-columns") => before_images(rule),
        ("column", "include-column") => Ok(Action::IncludeColumn),
        ("column", "remove-column") => Ok(Action::RemoveColumn),
        ("column", "change-data-type") => {
            let data_type = rule.get("data-type").ok_or("it has no data-type")?;
            sql_type(data_type).map(Action::ChangeType)
        }
        // masked and randomized digits are values of the column's own type
        ("column", "data-masking-hash-mask") => Ok(Action::Hash),
        ("column", "data-masking-digits-mask" | "data-masking-digits-randomize") => Ok(Action::Nothing),
        ("schema", _) => naming(rule, action).map(Action::NameSchema),
        ("table", _) => naming(rule, action).map(Action::NameTable),
        ("column", _) => naming(rule, action).map(Action::NameColumn),
        _ => Err(format!("rule-target {target:?} is not known")),
    }
}

fn naming(rule: &Value, action: &str) -> Result<Naming, String> {
    let value = || text(rule, "value").map(str::to_owned);
    let old = || text(rule, "old-value").map(str::to_owned);
    Ok(match action {
        "rename" => Naming::Rename(value()?),
        "convert-lowercase" => Naming::Lowercase,
        "convert-uppercase" => Naming::Uppercase,
        "add-prefix" => Naming::AddPrefix(value()?),
        "remove-prefix" => Naming::RemovePrefix(value()?),
        "replace-prefix" => Naming::ReplacePrefix { old: old()?, new: value()? },
        "add-suffix" => Naming::AddSuffix(value()?),
        "remove-suffix" => Naming::RemoveSuffix(value()?),
        "replace-suffix" => Naming::ReplaceSuffix { old: old()?, new: value()? },
        other => return Err(format!("rule-action {other:?} of a transformation is not known")),
    })
}

fn define_key(rule: &Value) -> Result<Action, String> {
    if rule.pointer("/primary-key-def/origin").and_then(Value::as_str) == Some("unique-index") {
        // an index beside the primary key, by which updates are not told
        return Ok(Action::Nothing);
    }
    let columns = rule.pointer("/primary-key-def/columns").and_then(Value::as_array);
    let names = columns.map(|columns| columns.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
    match names {
        Some(names) if !names.is_empty() => Ok(Action::DefineKey(names)),
        _ => Err("its primary-key-def names no columns".to_owned()),
    }
}

fn add_column(rule: &Value) -> Result<Action, String> {
    let expression = rule.get("expression").and_then(Value::as_str).unwrap_or_default();
    let sql_type = rule.get("data-type").map_or(Ok(SqlType::Text), sql_type)?;
    let name = text(rule, "value")?.to_owned();
    Ok(Action::AddColumn(AddedColumn { name, sql_type, meaning: Added::of(expression) }))
}

fn before_images(rule: &Value) -> Result<Action, String> {
    let member = |name: &str, default: &str| match rule.pointer(&format!("/before-image-def/{name}")) {
        Some(Value::String(text)) => Ok(text.clone()),
        None | Some(Value::Null) => Ok(default.to_owned()),
        Some(other) => Err(format!("{name} is {other} and not a string")),
    };
    let (prefix, suffix) = (member("column-prefix", "BI_")?, member("column-suffix", "")?);
    if prefix.is_empty() && suffix.is_empty() {
        return Err("its before-image-def has neither column-prefix nor column-suffix".to_owned());
    }
    let filter = match member("column-filter", "pk-only")?.as_str() {
        "pk-only" => BeforeFilter::PrimaryKey,
        "non-lob" => BeforeFilter::NonLob,
        "all" => BeforeFilter::All,
        other => return Err(format!("column-filter {other:?} is not known")),
    };
    Ok(Action::BeforeImages(BeforeImages { prefix, suffix, filter }))
}

/// The MySQL type whose values are written as those of a DMS type are (DMS, "Data types").
fn sql_type(data_type: &Value) -> Result<SqlType, String> {
    let number = |member: &str| {
        let value = data_type.get(member)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).and_then(|number| u8::try_from(number).ok())
    };
    Ok(match text(data_type, "type")?.to_ascii_lowercase().as_str() {
        "string" | "wstring" | "clob" | "nclob" => SqlType::Text,
        "bytes" | "blob" => SqlType::Bytes,
        "boolean" => SqlType::Bit(1),
        "date" => SqlType::Date,
        "time" => SqlType::Time(6),
        "datetime" => SqlType::DateTime(6),
        "int1" => SqlType::TinyInt { unsigned: false },
        "int2" => SqlType::SmallInt { unsigned: false },
        "int4" => SqlType::Int { unsigned: false },
        "int8" => SqlType::BigInt { unsigned: false },
        "uint1" => SqlType::TinyInt { unsigned: true },
        "uint2" => SqlType::SmallInt { unsigned: true },
        "uint4" => SqlType::Int { unsigned: true },
        "uint8" => SqlType::BigInt { unsigned: true },
        "real4" => SqlType::Float,
        "real8" => SqlType::Double,
        "numeric" => match (number("precision"), number("scale").unwrap_or(0)) {
            (Some(precision @ 1..=65), scale @ 0..=30) if scale <= precision => SqlType::Decimal { precision, scale },
            _ => return Err("its data-type numeric has no precision and scale that a DECIMAL can have".to_owned()),
        },
        other => return Err(format!("its data-type {other:?} is not known")),
    })
}

impl Added {
    fn of(expression: &str) -> Self {
        let expression = expression.trim();
        if let Some(marker) = delete_marker(expression) {
            return Self::Indicator(marker);
        }
        if expression == "$AR_H_CHANGE_SEQ" {
            return Self::ChangeSequence;
        }
        let mut names = expression.split('$').skip(1).peekable();
        match names.peek().is_some() && names.all(|name| name.starts_with("AR_H_")) {
            true => Self::OfChange,
            false => Self::Value,
        }
    }
}

/// The first argument of `operation_indicator('D', 'U', 'I')`.
fn delete_marker(expression: &str) -> Option<String> {
    let (name, arguments) = expression.split_once('(')?;
    if !name.trim().eq_ignore_ascii_case("operation_indicator") {
        return None;
    }
    let first = arguments.split([',', ')']).next()?.trim();
    Some(first.trim_matches(['\'', '"']).to_owned())
}

impl Naming {
    pub fn apply(&self, name: &str) -> String {
        match self {
            Self::Rename(new) => new.clone(),
            Self::Lowercase => name.to_lowercase(),
            Self::Uppercase => name.to_uppercase(),
            Self::AddPrefix(prefix) => format!("{prefix}{name}"),
            Self::RemovePrefix(prefix) => name.strip_prefix(prefix.as_str()).unwrap_or(name).to_owned(),
            Self::ReplacePrefix { old, new } => match name.strip_prefix(old.as_str()) {
                Some(rest) => format!("{new}{rest}"),
                None => name.to_owned(),
            },
            Self::AddSuffix(suffix) => format!("{name}{suffix}"),
            Self::RemoveSuffix(suffix) => name.strip_suffix(suffix.as_str()).unwrap_or(name).to_owned(),
            Self::ReplaceSuffix { old, new } => match name.strip_suffix(old.as_str()) {
                Some(rest) => format!("{rest}{new}"),
                None => name.to_owned(),
            },
        }
    }

    /// Names that this may have made `name` of; of a renamed one nothing is left, and of letters their case is lost.
    pub fn undo(&self, name: &str) -> Vec<String> {
        let undone = match self {
            Self::Rename(_) => None,
            Self::Lowercase => Some(name.to_uppercase()),
            Self::Uppercase => Some(name.to_lowercase()),
            Self::AddPrefix(prefix) => name.strip_prefix(prefix.as_str()).map(str::to_owned),
            Self::RemovePrefix(prefix) if name.starts_with(prefix.as_str()) => None,
            Self::RemovePrefix(prefix) => Some(format!("{prefix}{name}")),
            Self::ReplacePrefix { old, new } => name.strip_prefix(new.as_str()).map(|rest| format!("{old}{rest}")),
            Self::AddSuffix(suffix) => name.strip_suffix(suffix.as_str()).map(str::to_owned),
            Self::RemoveSuffix(suffix) if name.ends_with(suffix.as_str()) => None,
            Self::RemoveSuffix(suffix) => Some(format!("{name}{suffix}")),
            Self::ReplaceSuffix { old, new } => name.strip_suffix(new.as_str()).map(|rest| format!("{rest}{old}")),
        };
        undone.into_iter().collect()
    }
}

impl TableRules {
    /// Those of `rules` that are about `table` of the source.
    pub(super) fn of(rules: &[Transformation], table: &TableName) -> Self {
        let mut rules: Vec<_> = rules.iter().filter(|rule| rule.covers(table)).cloned().collect();
        let adding = rules.iter().filter(|rule| matches!(rule.action, Action::AddColumn(_)));
        let disordered = !adding.is_sorted_by_key(|rule| rule.id);
        rules.sort_by_key(|rule| rule.id);
        let mut seen: Vec<String> = Vec::new();
        rules.retain(|rule| {
            let Action::AddColumn(column) = &rule.action else { return true };
            let name = column.name.to_lowercase();
            let new = !seen.contains(&name);
            seen.push(name);
            new
        });
        Self { rules, disordered }
    }

    fn first<T>(&self, what: impl Fn(&Action) -> Option<T>) -> Option<T> {
        self.rules.iter().find_map(|rule| what(&rule.action))
    }

    fn first_of_column<T>(&self, column: &str, what: impl Fn(&Action) -> Option<T>) -> Option<T> {
        self.rules.iter().filter(|rule| rule.column.matches(column)).find_map(|rule| what(&rule.action))
    }

    /// The schema's name in the lake.
    pub(super) fn schema(&self, name: &str) -> String {
        let naming =
            self.first(|action| if let Action::NameSchema(naming) = action { Some(naming.clone()) } else { None });
        naming.map_or_else(|| name.to_owned(), |naming| naming.apply(name))
    }

    /// The table's name in the lake.
    pub(super) fn table(&self, name: &str) -> String {
        let naming =
            self.first(|action| if let Action::NameTable(naming) = action { Some(naming.clone()) } else { None });
        naming.map_or_else(|| name.to_owned(), |naming| naming.apply(name))
    }

    /// The name that the source's `column` has in the records and the lake. `is_column` tells what the configured schema
    /// has, which may be that of the lake already.
    pub(super) fn column(&self, column: &str, is_column: impl Fn(&str) -> bool) -> String {
        let renamed_already = self.rules.iter().any(|rule| match &rule.action {
            Action::NameColumn(Naming::Rename(new)) if new == column => {
                rule.column.literal().is_some_and(|old| !is_column(&old))
            }
            _ => false,
        });
        if renamed_already {
            return column.to_owned();
        }
        let naming =
            |action: &Action| if let Action::NameColumn(naming) = action { Some(naming.clone()) } else { None };
        self.first_of_column(column, naming).map_or_else(|| column.to_owned(), |naming| naming.apply(column))
    }

    /// Whether the source's `column` does not arrive.
    pub(super) fn removes(&self, column: &str) -> bool {
        let matching =
            |wanted: &Action| self.first_of_column(column, |action| (action == wanted).then_some(())).is_some();
        let only_some = self.rules.iter().any(|rule| rule.action == Action::IncludeColumn);
        matching(&Action::RemoveColumn) || only_some && !matching(&Action::IncludeColumn)
    }

    /// The type as which the source's `column` arrives, if it is another one.
    pub(super) fn sql_type(&self, column: &str) -> Option<SqlType> {
        if self.first_of_column(column, |action| (*action == Action::Hash).then_some(())).is_some() {
            return Some(SqlType::Text);
        }
        self.first_of_column(column, |action| match action {
            Action::ChangeType(sql_type) => Some(sql_type.clone()),
            _ => None,
        })
    }

    /// The added columns in the order in which a record has them.
    pub(super) fn added(&self) -> impl Iterator<Item = &AddedColumn> {
        self.rules.iter().filter_map(|rule| match &rule.action {
            Action::AddColumn(column) => Some(column),
            _ => None,
        })
    }

    /// Whether it cannot be told in which order records have the added columns.
    pub(super) fn adds_in_unknown_order(&self) -> bool {
        self.disordered
    }

    /// The before images, if there are any.
    pub(super) fn before_images(&self) -> Option<&BeforeImages> {
        self.rules.iter().find_map(|rule| match &rule.action {
            Action::BeforeImages(before) => Some(before),
            _ => None,
        })
    }

    /// The columns of the key that the task defines.
    pub(super) fn defined_key(&self) -> Option<Vec<String>> {
        self.first(|action| if let Action::DefineKey(names) = action { Some(names.clone()) } else { None })
    }

    /// Whether `name`, one of those in a header, is a column that the task adds to those of the source.
    pub(crate) fn adds(&self, name: &str, header: &[String]) -> bool {
        let is_image = |before: &BeforeImages| {
            let inner = name.strip_prefix(before.prefix.as_str())?.strip_suffix(before.suffix.as_str())?;
            header.iter().any(|other| other.eq_ignore_ascii_case(inner)).then_some(())
        };
        self.added().any(|column| column.name.eq_ignore_ascii_case(name))
            || self.before_images().and_then(is_image).is_some()
    }

    /// How many of `fields` without a header are columns of the source.
    ///
    /// # Errors
    /// If that cannot be told, or cannot be.
    pub(crate) fn source_fields(&self, fields: usize, key: &[String]) -> Result<usize, String> {
        let others = fields.checked_sub(self.added().count());
        let columns = match (others, self.before_images().map(|before| before.filter)) {
            (others, None) => others,
            (Some(others), Some(BeforeFilter::PrimaryKey)) => others.checked_sub(key.len()),
            (Some(others), Some(BeforeFilter::All)) => others.is_multiple_of(2).then_some(others / 2),
            (_, Some(BeforeFilter::NonLob)) => {
                return Err(
                    "the before images of the table mappings leave out LOBs (non-lob), so the columns cannot be \
                            inferred: give CREATE TABLE statements, or let DMS write a header (AddColumnName)"
                        .to_owned(),
                );
            }
            (None, Some(_)) => None,
        };
        columns.filter(|columns| *columns > 0).ok_or_else(|| {
            format!("records have {fields} fields, too few for what the table mappings add: columns and before images")
        })
    }

    /// Whether the task adds a column `name` that tells of the change and not of the row.
    pub fn adds_helper(&self, name: &str) -> bool {
        self.added().any(|column| column.meaning != Added::Value && column.name.eq_ignore_ascii_case(name))
    }

    /// Whether records hold the key that a row had before an update.
    pub fn has_before_images(&self) -> bool {
        self.before_images().is_some()
    }

    /// Whether records hold all of a key that a row had before an update.
    pub fn has_before_images_of_key(&self, is_primary: bool) -> bool {
        self.before_images().is_some_and(|images| is_primary || images.filter != BeforeFilter::PrimaryKey)
    }
}

#[cfg(test)]
pub(crate) mod tests;
