//! The table mappings of a DMS task: which tables it selects, and what it calls them.
//!
//! Rules that are not carried out are refused by name, since to pass over one would give wrong rows.

use serde_json::Value;

use super::pattern::Pattern;
use super::task::member_of_task;
use super::transformations::{Action, Naming, TableRules, Transformation};
use crate::name::TableName;

/// The rules of a task's table mappings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mappings {
    /// What is included, and what is then taken away again, whatever the order of the rules.
    included: Vec<Selection>,
    excluded: Vec<Selection>,
    /// In the order in which they stand.
    transformations: Vec<Transformation>,
}

/// Why table mappings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The text is no JSON.
    #[error("the table mappings are not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The JSON has no list of rules.
    #[error("the table mappings have no list \"rules\"; give the JSON of one task's table mappings")]
    Shape,
    /// A rule cannot be understood, or is not carried out.
    #[error("table mapping {rule}: {reason}")]
    Rule {
        /// The rule by its `rule-id`, or by its place in the list if it has none.
        rule: String,
        /// What is wrong with it, and the way out.
        reason: String,
    },
    /// No rule includes anything.
    #[error("the table mappings include no table; DMS needs at least one selection rule that includes")]
    NothingIncluded,
}

/// The JSON of table mappings, alone or in what DMS answered about their task.
///
/// # Errors
/// If `json` is none, or is about several tasks.
pub fn unwrapped(json: &str) -> Result<Value, MappingError> {
    member_of_task(&serde_json::from_str(json)?, "TableMappings")?.ok_or(MappingError::Shape)
}

impl Mappings {
    /// Reads the JSON of a task's table mappings (DMS, "Specifying table selection and transformations rules"), alone or in
    /// what `describe-replication-tasks` answers.
    ///
    /// # Errors
    /// If it is no such JSON, includes nothing, or has a rule that is not carried out; the error names the rule.
    pub fn parse(json: &str) -> Result<Self, MappingError> {
        let value = unwrapped(json)?;
        let rules = value.get("rules").and_then(Value::as_array).ok_or(MappingError::Shape)?;
        let mut mappings = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            let wrong = |reason| MappingError::Rule { rule: identity(place, rule), reason };
            mappings.take(rule).map_err(wrong)?;
        }
        if mappings.included.is_empty() { Err(MappingError::NothingIncluded) } else { Ok(mappings) }
    }

    /// Every table of every schema.
    pub fn all() -> Self {
        let everything = Selection { schema: Pattern::any(), table: Pattern::any(), filtered: false };
        Self { included: vec![everything], ..Self::default() }
    }

    /// Whether the task brings the source's table `name`; the case of letters matters.
    pub fn selects(&self, name: &TableName) -> bool {
        let covers = |selections: &[Selection]| selections.iter().any(|selection| selection.covers(name));
        covers(&self.included) && !covers(&self.excluded)
    }

    /// Whether the task brings only some rows of the source's table `name`.
    pub fn filters(&self, name: &TableName) -> bool {
        self.included.iter().any(|selection| selection.filtered && selection.covers(name))
    }

    /// What the task does to the records of the source's table `name`.
    pub fn rules(&self, name: &TableName) -> TableRules {
        TableRules::of(&self.transformations, name)
    }

    /// Whether records of the source's table `name` hold the key that a row had before an update.
    pub fn has_before_images(&self, name: &TableName) -> bool {
        self.rules(name).has_before_images()
    }

    /// The name that the source's table `name` has in the folders and in the lake.
    pub fn target(&self, name: &TableName) -> TableName {
        let rules = self.rules(name);
        TableName::new(rules.schema(&name.schema), rules.table(&name.table))
    }

    /// The source's table that a person means by `name`, which may be its name in the source or the one that the rules
    /// give it; `known` are names that tables of the source may have, from `CREATE TABLE` statements.
    pub fn source(&self, name: &TableName, known: &[String]) -> TableName {
        let mut possible = self.formers(name, known);
        if !possible.contains(name) {
            possible.push(name.clone());
        }
        // the one that most rules without wildcards rename so, since no two tables may become one; else one that is
        // known; else the one that most rules are about
        let likely = |table: &TableName| {
            let is_known = known.contains(&table.table) && self.selects(table);
            (self.renames(table, name), is_known, self.mentions(table))
        };
        possible.iter().min_by_key(|table| std::cmp::Reverse(likely(table))).unwrap_or(name).clone()
    }

    /// How often rules name the schema or the table without wildcards.
    fn mentions(&self, name: &TableName) -> usize {
        let selected = self.included.iter().map(|selection| (selection.schema.literal(), selection.table.literal()));
        let transformed = self.transformations.iter().map(|rule| (rule.exact_schema(), rule.exact_table()));
        let is = |text: Option<String>, part: &str| usize::from(text.as_deref() == Some(part));
        selected.chain(transformed).map(|(schema, table)| is(schema, &name.schema) + is(table, &name.table)).sum()
    }

    /// How many rules without wildcards rename the schema or the table of `former` as `name` has it.
    fn renames(&self, former: &TableName, name: &TableName) -> usize {
        let renames = |rule: &&Transformation| match &rule.action {
            Action::NameSchema(Naming::Rename(new)) => {
                *new == name.schema && rule.exact_schema().as_ref() == Some(&former.schema)
            }
            Action::NameTable(Naming::Rename(new)) => {
                *new == name.table && rule.exact_table().as_ref() == Some(&former.table)
            }
            _ => false,
        };
        self.transformations.iter().filter(renames).count()
    }

    /// The selected tables of the source that may have become `target`, as far as the rules tell.
    fn formers(&self, target: &TableName, known: &[String]) -> Vec<TableName> {
        let (mut schemas, mut tables) = (vec![target.schema.clone()], vec![target.table.clone()]);
        tables.extend(known.iter().cloned());
        for selection in &self.included {
            schemas.extend(selection.schema.literal());
            tables.extend(selection.table.literal());
        }
        for rule in &self.transformations {
            schemas.extend(rule.exact_schema());
            tables.extend(rule.exact_table());
            match &rule.action {
                Action::NameSchema(naming) => schemas.extend(naming.undo(&target.schema)),
                Action::NameTable(naming) => tables.extend(naming.undo(&target.table)),
                _ => {}
            }
        }
        let pairs = schemas.iter().flat_map(|schema| tables.iter().map(move |table| TableName::new(schema, table)));
        pairs.filter(|name| self.target(name) == *target && self.selects(name)).collect()
    }

    /// Whether a folder of the raw files holds a selected table, as far as its name tells.
    pub fn selects_folder(&self, folder: &TableName) -> bool {
        if !self.names().any(|_| true) {
            return self.selects(folder);
        }
        // of a name that many tables were given, and of the case of letters, nothing tells what it was
        let renamed_to = |rule: &Transformation| match &rule.action {
            Action::NameSchema(Naming::Rename(new)) => *new == folder.schema && rule.exact_schema().is_none(),
            Action::NameTable(Naming::Rename(new)) => *new == folder.table && rule.exact_table().is_none(),
            _ => false,
        };
        if self.transformations.iter().any(renamed_to) {
            return true;
        }
        let case_is_lost = self.names().any(|naming| matches!(naming, Naming::Lowercase | Naming::Uppercase));
        let lower = TableName::new(folder.schema.to_lowercase(), folder.table.to_lowercase());
        let covers = |selections: &[Selection]| selections.iter().any(|selection| selection.lowercase().covers(&lower));
        !self.formers(folder, &[]).is_empty() || case_is_lost && covers(&self.included) && !covers(&self.excluded)
    }

    /// What is done to the names of schemas and tables.
    fn names(&self) -> impl Iterator<Item = &Naming> {
        self.transformations.iter().filter_map(|rule| match &rule.action {
            Action::NameSchema(naming) | Action::NameTable(naming) => Some(naming),
            _ => None,
        })
    }

    fn take(&mut self, rule: &Value) -> Result<(), String> {
        match text(rule, "rule-type")? {
            "selection" => self.select(rule),
            "transformation" => {
                let transformation = Transformation::read(rule);
                self.transformations.push(transformation.map_err(|reason| format!("{}: {reason}", object(rule)))?);
                Ok(())
            }
            "table-settings" => match rule.pointer("/parallel-load/type").and_then(Value::as_str) {
                // The names of the files tell the segments.
                Some("partitions-auto" | "subpartitions-auto" | "partitions-list" | "ranges" | "none") => Ok(()),
                None if rule.get("parallel-load").is_none_or(Value::is_null) => Ok(()),
                kind => {
                    Err(format!("parallel-load {} of {} is not known", kind.unwrap_or("without type"), object(rule)))
                }
            },
            // Tags of the objects in the bucket, and how DMS compares source and target.
            "post-processing" | "validation" => Ok(()),
            other => Err(format!("rule-type {other:?} is not known")),
        }
    }

    fn select(&mut self, rule: &Value) -> Result<(), String> {
        let locator = rule.get("object-locator").ok_or("it has no object-locator")?;
        let (schema, table) = (text(locator, "schema-name")?, text(locator, "table-name")?);
        let filtered = rule.get("filters").and_then(Value::as_array).is_some_and(|filters| !filters.is_empty());
        let like = || Selection { schema: Pattern::like(schema), table: Pattern::like(table), filtered };
        match text(rule, "rule-action")? {
            "include" => self.included.push(like()),
            "exclude" => self.excluded.push(like()),
            "explicit" => {
                let (schema, table) = (Pattern::exactly(schema), Pattern::exactly(table));
                self.included.push(Selection { schema, table, filtered });
            }
            other => return Err(format!("rule-action {other:?} of a selection is not known")),
        }
        Ok(())
    }
}

pub(super) fn text<'a>(object: &'a Value, member: &str) -> Result<&'a str, String> {
    match object.get(member) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{member} is {other} and not a string")),
        None => Err(format!("it has no {member}")),
    }
}

/// `rule-id` is a string or a number in real configurations.
fn identity(place: usize, rule: &Value) -> String {
    match rule.get("rule-id") {
        Some(Value::String(id)) => format!("rule-id {id}"),
        Some(Value::Number(id)) => format!("rule-id {id}"),
        _ => format!("rule {} (without rule-id)", place + 1),
    }
}

/// What a rule is about, such as `column shop.orders.id`.
fn object(rule: &Value) -> String {
    let names = ["schema-name", "table-name", "column-name"];
    let locator = rule.get("object-locator");
    let names: Vec<_> = names.iter().filter_map(|name| locator?.get(name)?.as_str()).collect();
    let target = rule.get("rule-target").and_then(Value::as_str).unwrap_or("table");
    format!("{target} {}", names.join("."))
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Selection {
    schema: Pattern,
    table: Pattern,
    /// It brings only some rows.
    filtered: bool,
}

impl Selection {
    fn covers(&self, name: &TableName) -> bool {
        self.schema.matches(&name.schema) && self.table.matches(&name.table)
    }

    fn lowercase(&self) -> Self {
        Self { schema: self.schema.lowercase(), table: self.table.lowercase(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selection(id: &str, action: &str, schema: &str, table: &str) -> String {
        format!(
            r#"{{"rule-type": "selection", "rule-id": {id}, "rule-name": "n", "rule-action": "{action}", "filters": [],
                "object-locator": {{"schema-name": "{schema}", "table-name": "{table}"}}}}"#
        )
    }

    fn mappings(rules: &[String]) -> Result<Mappings, String> {
        Mappings::parse(&format!(r#"{{"rules": [{}]}}"#, rules.join(","))).map_err(|error| error.to_string())
    }

    fn check(pattern: &str, name: &str, expected: bool) {
        let mappings = mappings(&[selection("1", "include", "s", pattern)]).unwrap();
        assert_eq!(mappings.selects(&TableName::new("s", name)), expected, "{pattern} {name}");
    }

    #[test]
    fn what_dms_answers_about_a_task_is_taken_as_it_is() {
        let rules = format!(r#"{{"rules": [{}]}}"#, selection("1", "include", "s", "t"));
        let text = Value::String(rules.clone());
        for answer in [
            format!(r#"{{"ReplicationTasks": [{{"Status": "running", "TableMappings": {text}}}]}}"#),
            format!(r#"{{"ReplicationTask": {{"TableMappings": {text}}}}}"#),
            format!(r#"{{"TableMappings": {rules}}}"#),
        ] {
            assert_eq!(Mappings::parse(&answer).unwrap(), Mappings::parse(&rules).unwrap(), "{answer}");
        }
        assert!(Mappings::parse(r#"{"ReplicationTasks": [{}, {}]}"#).is_err());
    }

    #[test]
    fn rules_that_change_no_file_are_passed_over() {
        let validation = r#"{"rule-type": "validation", "rule-id": "1", "rule-name": "1", "rule-target": "column",
            "object-locator": {"schema-name": "s", "table-name": "t", "column-name": "c"},
            "rule-action": "override-validation-function", "source-function": "x"}"#;
        let index = r#"{"rule-type": "transformation", "rule-id": "2", "rule-action": "define-primary-key",
            "rule-target": "table", "object-locator": {"schema-name": "s", "table-name": "t"},
            "primary-key-def": {"name": "i", "origin": "unique-index", "columns": ["a", "b"]}}"#;
        let key = |rule: &str| {
            let mappings =
                mappings(&[selection("1", "include", "s", "t"), validation.into(), rule.to_owned()]).unwrap();
            mappings.rules(&TableName::new("s", "t")).defined_key()
        };
        assert_eq!(key(index), None);
        assert_eq!(key(&index.replace("unique-index", "primary-key")), Some(vec!["a".to_owned(), "b".to_owned()]));
    }

    fn refused(rule: &str, expected: &str) {
        let error = mappings(&[selection("1", "include", "%", "%"), rule.to_owned()]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn percent_is_any_text_and_underscore_any_one_character() {
        check("%", "", true);
        check("order%", "orders", true);
        check("order_items", "orderXitems", true);
        check("order_items", "orderitems", false);
        check("%a%b", "xaxbxab", true);
        check("%a%b", "xaxbxa", false);
        check("ord_", "ordü", true);
        check("Orders", "orders", false);
    }

    #[test]
    fn a_table_with_an_underscore_in_its_name_is_found_by_the_one_it_was_given() {
        let rename = |target: &str, locator: &str, to: &str| {
            format!(
                r#"{{"rule-type": "transformation", "rule-id": 2, "rule-name": "2", "rule-target": "{target}",
                    "object-locator": {{{locator}}}, "rule-action": "rename", "value": "{to}"}}"#
            )
        };
        let table = rename("table", r#""schema-name": "shop", "table-name": "order_items""#, "items");
        let mappings = |rule| mappings(&[selection("1", "include", "%", "%"), rule]).unwrap();
        let source = mappings(table).source(&TableName::new("shop", "items"), &[]);
        assert_eq!(source, TableName::new("shop", "order_items"));
        let schema = mappings(rename("schema", r#""schema-name": "energy_db""#, "fossil"));
        let source = schema.source(&TableName::new("fossil", "coal_prod"), &[]);
        assert_eq!(source, TableName::new("energy_db", "coal_prod"));
        assert!(schema.selects_folder(&TableName::new("fossil", "coal_prod")));
    }

    #[test]
    fn a_wildcard_in_brackets_is_itself() {
        check("order[_]items", "order_items", true);
        check("order[_]items", "orderXitems", false);
        check("100[%]", "100%", true);
        check("100[%]", "1000", false);
        check("a[b]", "a[b]", true);
    }

    #[test]
    fn exclude_subtracts_whatever_the_order() {
        let rules = [selection("\"1\"", "exclude", "shop", "tmp%"), selection("2", "include", "shop", "%")];
        let mappings = mappings(&rules).unwrap();
        assert!(mappings.selects(&TableName::new("shop", "orders")));
        assert!(!mappings.selects(&TableName::new("shop", "tmp_orders")));
        assert!(!mappings.selects(&TableName::new("other", "orders")));
    }

    #[test]
    fn explicit_has_no_wildcards() {
        let mappings = mappings(&[selection("1", "explicit", "shop", "a_b")]).unwrap();
        assert!(mappings.selects(&TableName::new("shop", "a_b")));
        assert!(!mappings.selects(&TableName::new("shop", "axb")));
    }

    #[test]
    fn without_mappings_everything_is_selected() {
        assert!(Mappings::all().selects(&TableName::new("a", "b")));
    }

    #[test]
    fn nothing_included_is_an_error() {
        assert!(mappings(&[]).unwrap_err().contains("include no table"));
        assert!(mappings(&[selection("1", "exclude", "a", "b")]).unwrap_err().contains("include no table"));
    }

    #[test]
    fn a_rule_that_is_not_carried_out_is_named() {
        refused(
            r#"{"rule-type": "transformation", "rule-id": 7, "rule-action": "turn", "rule-target": "column",
                "object-locator": {"schema-name": "s", "table-name": "t", "column-name": "c"}, "value": "d"}"#,
            "rule-id 7: column s.t.c: rule-action \"turn\" of a transformation is not known",
        );
        refused(
            r#"{"rule-type": "table-settings", "rule-id": "8", "parallel-load": {"type": "rangs"},
                "object-locator": {"schema-name": "s", "table-name": "t"}}"#,
            "rule-id 8: parallel-load rangs of table s.t",
        );
    }

    #[test]
    fn a_rule_that_cannot_be_understood_is_named() {
        refused(r#"{"rule-id": "9"}"#, "rule-id 9: it has no rule-type");
        refused(r#"{"rule-type": "selection"}"#, "rule 2 (without rule-id): it has no object-locator");
        refused(r#"{"rule-type": "other", "rule-id": 3}"#, "rule-type \"other\"");
        refused(&selection("4", "maybe", "a", "b"), "rule-action \"maybe\"");
    }

    #[test]
    fn settings_of_tables_are_accepted() {
        let lob = r#"{"rule-type": "table-settings", "rule-id": "3",
            "lob-settings": {"mode": "limited", "bulk-max-size": "16"}}"#;
        let parallel = ["partitions-auto", "subpartitions-auto", "partitions-list", "ranges", "none"].map(|kind| {
            lob.replace("\"lob-settings\"", &format!("\"parallel-load\": {{\"type\": \"{kind}\"}}, \"l\""))
        });
        let tags = r#"{"rule-type": "post-processing", "rule-id": "1", "rule-action": "add-tag", "tag-set": []}"#;
        let rules = [selection("1", "include", "%", "%"), lob.to_owned(), tags.to_owned()];
        assert_eq!(mappings(&[&rules[..], &parallel].concat()), Ok(Mappings::all()));
    }

    proptest! {
        #[test]
        fn any_text_gives_mappings_or_an_error(text in any::<String>()) {
            let _ = Mappings::parse(&text);
            let _ = Mappings::parse(&format!(r#"{{"rules": [{text}]}}"#));
        }
    }
}
