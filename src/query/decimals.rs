//! A decimal that is compared with a text, `price > '2845.664'`, is compared with the number that stands there, all of its
//! digits. The engine would round it to the digits that the decimal has behind the point.

use datafusion::arrow::datatypes::DECIMAL128_MAX_PRECISION;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans comparisons of decimals with texts.
#[derive(Debug)]
pub struct Decimals;

impl ExprPlanner for Decimals {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>, DataFusionError> {
        use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        if !matches!(expr.op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            return Ok(PlannerResult::Original(expr));
        }
        let is_decimal = |operand: &Expr| operand.get_type(schema).is_ok_and(|of| of.is_decimal());
        let RawBinaryExpr { op, mut left, mut right } = expr;
        if is_decimal(&left)
            && let Some(number) = number(&right)
        {
            right = number;
        } else if is_decimal(&right)
            && let Some(number) = number(&left)
        {
            left = number;
        }
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// The number that a literal text is.
fn number(text: &Expr) -> Option<Expr> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = text else { return None };
    let digits = text.trim();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = i8::try_from(fraction.len()).ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    let precision = u8::try_from(whole.len() + fraction.len()).ok()?;
    (precision <= DECIMAL128_MAX_PRECISION).then(|| lit(ScalarValue::Decimal128(Some(value), precision, scale)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_number_that_stands_there() {
        let shown = |text: &str| number(&lit(text)).map(|number| number.to_string());
        assert_eq!(shown(" -12.50 ").as_deref(), Some("Decimal128(-12.50,5,2)"));
        assert_eq!(shown("7").as_deref(), Some("Decimal128(7,1,0)"));
        assert_eq!(shown("+.5").as_deref(), Some("Decimal128(0.5,2,1)"));
        for text in ["", "x", "1.2.3", "1.-2", "1e5", &"9".repeat(39)] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
