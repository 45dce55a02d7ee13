//! The table mappings of a DMS task: which tables it selects.
//!
//! Rules that change names, columns or folders are refused by name, since to pass over one would give wrong rows.

use serde_json::Value;

use crate::name::TableName;

/// The selection rules of a task's table mappings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mappings {
    /// What is included, and what is then taken away again, whatever the order of the rules.
    included: Vec<Selection>,
    excluded: Vec<Selection>,
}

/// Why table mappings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The text is no JSON.
    #[error("the table mappings are not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The JSON has no list of rules.
    #[error("the table mappings have no list \"rules\"; give the JSON of the task's table mappings")]
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

impl Mappings {
    /// Reads the JSON of a task's table mappings (DMS, "Specifying table selection and transformations rules").
    ///
    /// # Errors
    /// If it is no such JSON, includes nothing, or has a rule that is not carried out; the error names the rule.
    pub fn parse(json: &str) -> Result<Self, MappingError> {
        let value: Value = serde_json::from_str(json)?;
        let rules = value.get("rules").and_then(Value::as_array).ok_or(MappingError::Shape)?;
        let mut mappings = Self { included: Vec::new(), excluded: Vec::new() };
        for (place, rule) in rules.iter().enumerate() {
            let wrong = |reason| MappingError::Rule { rule: identity(place, rule), reason };
            mappings.take(rule).map_err(wrong)?;
        }
        if mappings.included.is_empty() { Err(MappingError::NothingIncluded) } else { Ok(mappings) }
    }

    /// Every table of every schema.
    pub fn all() -> Self {
        let any = || Pattern(vec![Piece::Many]);
        Self { included: vec![Selection { schema: any(), table: any() }], excluded: Vec::new() }
    }

    /// Whether the task brings the table `name`; the case of letters matters.
    pub fn selects(&self, name: &TableName) -> bool {
        let covers = |selections: &[Selection]| selections.iter().any(|selection| selection.covers(name));
        covers(&self.included) && !covers(&self.excluded)
    }

    fn take(&mut self, rule: &Value) -> Result<(), String> {
        match text(rule, "rule-type")? {
            "selection" => self.select(rule),
            "transformation" => Err(format!(
                "transformation {} of {} is not carried out yet, and it changes names or columns; remove it and reload",
                text(rule, "rule-action").unwrap_or("without rule-action"),
                object(rule)
            )),
            "table-settings" => match rule.pointer("/parallel-load/type").and_then(Value::as_str) {
                // The names of the files tell the segments.
                Some("partitions-auto" | "subpartitions-auto" | "partitions-list" | "ranges" | "none") => Ok(()),
                None if rule.get("parallel-load").is_none_or(Value::is_null) => Ok(()),
                kind => {
                    Err(format!("parallel-load {} of {} is not known", kind.unwrap_or("without type"), object(rule)))
                }
            },
            // Tags of the objects in the bucket.
            "post-processing" => Ok(()),
            other => Err(format!("rule-type {other:?} is not known")),
        }
    }

    fn select(&mut self, rule: &Value) -> Result<(), String> {
        let locator = rule.get("object-locator").ok_or("it has no object-locator")?;
        let (schema, table) = (text(locator, "schema-name")?, text(locator, "table-name")?);
        let like = || Selection { schema: Pattern::like(schema), table: Pattern::like(table) };
        match text(rule, "rule-action")? {
            "include" => self.included.push(like()),
            "exclude" => self.excluded.push(like()),
            "explicit" => {
                self.included.push(Selection { schema: Pattern::exactly(schema), table: Pattern::exactly(table) });
            }
            other => return Err(format!("rule-action {other:?} of a selection is not known")),
        }
        Ok(())
    }
}

fn text<'a>(object: &'a Value, member: &str) -> Result<&'a str, String> {
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
}

impl Selection {
    fn covers(&self, name: &TableName) -> bool {
        self.schema.matches(&name.schema) && self.table.matches(&name.table)
    }
}

/// A name with wildcards: `%` is any text, `_` is any one character (DMS, "Wildcards in table mapping").
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Piece {
    Many,
    One,
    Exactly(char),
}

impl Pattern {
    fn exactly(text: &str) -> Self {
        Self(text.chars().map(Piece::Exactly).collect())
    }

    /// `[_]` and `[%]` stand for the characters themselves.
    fn like(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let escaped =
                [('_', "_]"), ('%', "%]")].into_iter().find(|(_, tail)| c == '[' && rest.as_str().starts_with(tail));
            pieces.push(match (c, escaped) {
                (_, Some((literal, _))) => {
                    rest.next();
                    rest.next();
                    Piece::Exactly(literal)
                }
                ('%', None) => Piece::Many,
                ('_', None) => Piece::One,
                (c, None) => Piece::Exactly(c),
            });
        }
        Self(pieces)
    }

    /// Goes back only to the last `%`: if the text can be matched at all, it can be so with the earlier ones at their
    /// shortest.
    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut piece) = (0, 0);
        let mut last_many = None;
        while at < text.len() {
            match self.0.get(piece) {
                Some(Piece::Many) => {
                    last_many = Some((at, piece));
                    piece += 1;
                }
                Some(Piece::One) => (at, piece) = (at + 1, piece + 1),
                Some(Piece::Exactly(c)) if *c == text[at] => (at, piece) = (at + 1, piece + 1),
                _ => {
                    let Some((start, many)) = last_many else { return false };
                    last_many = Some((start + 1, many));
                    (at, piece) = (start + 1, many + 1);
                }
            }
        }
        self.0[piece..].iter().all(|piece| *piece == Piece::Many)
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
            r#"{"rule-type": "transformation", "rule-id": 7, "rule-action": "rename", "rule-target": "column",
                "object-locator": {"schema-name": "s", "table-name": "t", "column-name": "c"}, "value": "d"}"#,
            "rule-id 7: transformation rename of column s.t.c",
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

        #[test]
        fn a_pattern_matches_as_trying_everything_does(pattern in "[%_ab]{0,6}", name in "[ab]{0,6}") {
            fn tried(pattern: &[char], name: &[char]) -> bool {
                match (pattern.first(), name.first()) {
                    (None, None) => true,
                    (Some('%'), _) => tried(&pattern[1..], name) || !name.is_empty() && tried(pattern, &name[1..]),
                    (Some(p), Some(n)) => (*p == '_' || p == n) && tried(&pattern[1..], &name[1..]),
                    _ => false,
                }
            }
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::like(&pattern).matches(&name), tried(&chars(&pattern), &chars(&name)));
        }
    }
}
