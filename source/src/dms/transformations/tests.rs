//! Rules in, names out.

use super::*;
use crate::dms::mappings::Mappings;

/// A transformation of `target`, which is `schema`, `schema.table` or `schema.table.column`; `more` are further members.
pub(crate) fn rule(id: u32, action: &str, target: &str, more: &str) -> String {
    let parts: Vec<_> = target.split('.').collect();
    let kind = ["schema", "table", "column"][parts.len() - 1];
    let names = ["schema-name", "table-name", "column-name"];
    let locator: Vec<_> = names.iter().zip(&parts).map(|(name, part)| format!(r#""{name}": "{part}""#)).collect();
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!(
        r#"{{"rule-type": "transformation", "rule-id": "{id}", "rule-target": "{kind}", "rule-action": "{action}",
            "object-locator": {{{}}}{more}}}"#,
        locator.join(", ")
    )
}

/// Mappings that include all tables of `shop`.
pub(crate) fn mappings(rules: &[String]) -> Result<Mappings, String> {
    let all = r#"{"rule-type": "selection", "rule-id": "0", "rule-action": "include",
        "object-locator": {"schema-name": "shop", "table-name": "%"}}"#;
    let rules: Vec<_> = std::iter::once(all.to_owned()).chain(rules.iter().cloned()).collect();
    Mappings::parse(&format!(r#"{{"rules": [{}]}}"#, rules.join(","))).map_err(|error| error.to_string())
}

fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

/// The table `shop.orders` becomes `expected`, and is found again from there.
fn check(rules: &[String], expected: &str) {
    let mappings = mappings(rules).unwrap();
    assert_eq!(mappings.target(&name("shop.orders")), name(expected), "{rules:?}");
    let known = ["orders".to_owned()];
    assert_eq!(mappings.source(&name(expected), &known), name("shop.orders"), "{rules:?}");
    assert_eq!(mappings.source(&name("shop.orders"), &known), name("shop.orders"), "{rules:?}");
    assert!(mappings.selects_folder(&name(expected)), "{rules:?}");
}

#[test]
fn schemas_and_tables_are_named_by_their_rules() {
    check(&[], "shop.orders");
    check(&[rule(1, "rename", "shop", r#""value": "lake""#)], "lake.orders");
    check(&[rule(1, "rename", "shop.orders", r#""value": "bestellungen""#)], "shop.bestellungen");
    check(&[rule(1, "convert-uppercase", "%", ""), rule(2, "convert-uppercase", "%.%", "")], "SHOP.ORDERS");
    check(&[rule(1, "add-prefix", "%.%", r#""value": "p_""#)], "shop.p_orders");
    check(&[rule(1, "remove-prefix", "%.%", r#""value": "or""#)], "shop.ders");
    check(&[rule(1, "replace-prefix", "%.%", r#""old-value": "or", "value": "b""#)], "shop.bders");
    check(&[rule(1, "add-suffix", "shop", r#""value": "_s""#)], "shop_s.orders");
    check(&[rule(1, "remove-suffix", "shop", r#""value": "op""#)], "sh.orders");
    check(&[rule(1, "replace-suffix", "sho_", r#""old-value": "op", "value": "e""#)], "she.orders");
    check(&[rule(1, "remove-suffix", "shop", r#""value": "x""#)], "shop.orders");
    check(&[rule(1, "rename", "other.orders", r#""value": "x""#)], "shop.orders");
}

#[test]
fn of_rules_about_one_object_the_lowest_number_counts() {
    let rules = [
        rule(10, "add-prefix", "%.%", r#""value": "p_""#),
        rule(9, "rename", "shop.orders", r#""value": "sales""#),
        rule(11, "rename", "shop", r#""value": "lake""#),
    ];
    check(&rules, "lake.sales");
    assert_eq!(mappings(&rules).unwrap().target(&name("shop.items")), name("lake.p_items"));
}

#[test]
fn a_folder_is_selected_if_a_selected_table_may_have_become_it() {
    let renamed = mappings(&[rule(1, "rename", "shop", r#""value": "lake""#)]).unwrap();
    assert!(renamed.selects_folder(&name("lake.orders")));
    assert!(!renamed.selects_folder(&name("shop.orders")));
    assert!(!renamed.selects_folder(&name("other.orders")));
    let anything = mappings(&[rule(1, "rename", "s%", r#""value": "lake""#)]).unwrap();
    assert!(anything.selects_folder(&name("lake.orders")));
    let upper = mappings(&[rule(1, "convert-uppercase", "%", "")]).unwrap();
    assert!(upper.selects_folder(&name("SHOP.orders")));
    assert!(!upper.selects_folder(&name("OTHER.orders")));
}

#[test]
fn a_table_may_be_meant_by_its_name_in_the_source_or_in_the_lake() {
    let source = |rule: &str, value: &str, meant: &str, known: &[&str]| {
        let known: Vec<_> = known.iter().map(|name| (*name).to_owned()).collect();
        let mappings = mappings(&[super::tests::rule(1, rule, "shop.%", value)]).unwrap();
        mappings.source(&name(meant), &known).to_string()
    };
    let lower = |meant, known: &[&str]| source("convert-lowercase", "", meant, known);
    assert_eq!(lower("shop.orderitems", &["OrderItems", "other"]), "shop.OrderItems");
    assert_eq!(lower("shop.orderitems", &["orderitems", "OrderItems"]), "shop.orderitems");
    assert_eq!(lower("shop.OrderItems", &["OrderItems"]), "shop.OrderItems");
    let prefix = |meant, known: &[&str]| source("add-prefix", r#""value": "p_""#, meant, known);
    assert_eq!(prefix("shop.p_orders", &[]), "shop.orders");
    assert_eq!(prefix("shop.p_orders", &["p_orders"]), "shop.p_orders");
    assert_eq!(prefix("shop.orders", &[]), "shop.orders");
    let renamed = mappings(&[rule(1, "rename", "shop.orders", r#""value": "sales""#)]).unwrap();
    assert_eq!(renamed.source(&name("shop.sales"), &["sales".to_owned()]), name("shop.orders"));
    let both =
        [rule(1, "rename", "shop", r#""value": "lake""#), rule(2, "rename", "shop.orders", r#""value": "sales""#)];
    assert_eq!(super::tests::mappings(&both).unwrap().source(&name("lake.sales"), &[]), name("shop.orders"));
    // of a name whose case is lost, the rules that name the table tell it, or the statements
    let upper = rule(1, "convert-uppercase", "shop.%", "");
    let named = [upper.clone(), rule(2, "remove-column", "shop.items.x", "")];
    assert_eq!(super::tests::mappings(&named).unwrap().source(&name("shop.ITEMS"), &[]), name("shop.items"));
    let moved = super::tests::mappings(&[upper, rule(2, "rename", "shop", r#""value": "lake""#)]).unwrap();
    assert_eq!(moved.source(&name("lake.ITEMS"), &["items".to_owned()]), name("shop.items"));
}

#[test]
fn what_a_column_tells_is_in_its_expression() {
    for (expression, expected) in [
        ("$AR_H_CHANGE_SEQ", Added::ChangeSequence),
        ("$AR_H_STREAM_POSITION", Added::OfChange),
        ("datetime($AR_H_COMMIT_TIMESTAMP)", Added::OfChange),
        ("$AR_H_OPERATION || $AR_H_USER", Added::OfChange),
        ("$NAME || $AR_H_OPERATION", Added::Value),
        ("$AR_M_SOURCE_TABLE_NAME", Added::Value),
        ("'constant'", Added::Value),
        ("operation_indicator('D', 'U', 'I')", Added::Indicator("D".into())),
    ] {
        assert_eq!(Added::of(expression), expected, "{expression}");
    }
}

#[test]
fn a_rule_that_cannot_be_understood_is_named() {
    for (rule, reason) in [
        (rule(1, "rename", "shop.orders", ""), "rule-id 1: table shop.orders: it has no value"),
        (rule(2, "replace-prefix", "shop", r#""value": "a""#), "it has no old-value"),
        (rule(3, "change-data-type", "shop.orders.id", ""), "it has no data-type"),
        (rule(4, "change-data-type", "shop.orders.id", r#""data-type": {"type": "money"}"#), "\"money\" is not known"),
        (rule(5, "change-data-type", "shop.orders.id", r#""data-type": {"type": "numeric"}"#), "no precision"),
        (rule(6, "define-primary-key", "shop.orders", ""), "names no columns"),
        (
            rule(6, "add-prefix", "shop.orders.%", r#""value": "x""#)
                .replace("\"object-locator\": {", "\"object-locator\": {\"data-type\": \"datetime\", "),
            "has a data-type",
        ),
        (rule(7, "add-column", "shop.orders.x", r#""expression": "1""#), "it has no value"),
        (rule(8, "remove-column", "shop.orders", ""), "\"remove-column\" of a transformation is not known"),
        (
            rule(9, "add-before-image-columns", "s.t.%", r#""before-image-def": {"column-prefix": ""}"#),
            "neither column-prefix nor column-suffix",
        ),
    ] {
        let error = mappings(&[rule]).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn tablespaces_change_nothing() {
    let tablespace = r#"{"rule-type": "transformation", "rule-id": "1", "rule-target": "table-tablespace",
        "object-locator": {"schema-name": "%", "table-name": "%", "table-tablespace-name": "%"},
        "rule-action": "rename", "value": "x"}"#;
    check(&[tablespace.to_owned()], "shop.orders");
}
