//! A number with an exponent, `1e3`, is a DOUBLE, as in MySQL.
//!
//! The planner, which makes decimals of numbers with a point, makes such a one a decimal of negative scale, and computes
//! with it as if it had none.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{CastKind, DataType, ExactNumberInfo, Expr, Value, VisitorMut};

use super::identifiers;

/// Makes such numbers of a statement what they are.
pub fn settle(statement: &mut Statement) {
    let _ = identifiers::visit(statement, &mut Exponents);
}

struct Exponents;

impl VisitorMut for Exponents {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(value) = expr
            && let Value::Number(number, _) = &value.value
            && number.contains(['e', 'E'])
        {
            let text = Value::SingleQuotedString(number.clone());
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::Value(text.into())),
                data_type: DataType::Double(ExactNumberInfo::None),
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    }
}
