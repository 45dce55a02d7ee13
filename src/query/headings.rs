//! What stands above the columns of an answer.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, SelectItem, SetExpr};

/// Heads computed columns with their text, as MySQL does: `sum(price)`, where DataFusion would say
/// `sum(shop.orders.price)`. Inner SELECTs are left alone, for no one sees their headings.
pub fn as_typed(statement: &mut Statement) {
    let Statement::Statement(statement) = statement else {
        return;
    };
    let ast::Statement::Query(query) = statement.as_mut() else {
        return;
    };
    let mut body = query.body.as_mut();
    while let SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    let SetExpr::Select(select) = body else {
        return;
    };
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else {
            continue;
        };
        let text = expr.to_string();
        // An unnested value has one column for each of its fields.
        let is_name = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        if !is_name && !text.to_lowercase().starts_with("unnest(") {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', text) };
        }
    }
}
