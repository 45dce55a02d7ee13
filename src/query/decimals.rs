//! A decimal that is compared with a text, `price > '2845.664'`, is compared with the number that stands there, all of its
//! digits. The engine would round it to the digits that the decimal has behind the point. One that is compared with a DOUBLE
//! or a FLOAT is compared as a DOUBLE, as in MySQL.

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Case, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

/// Compares decimals with texts and with numbers that are not exact. To be added before the rules of the engine.
#[derive(Debug)]
pub struct Decimals;

impl AnalyzerRule for Decimals {
    fn name(&self) -> &'static str {
        "decimals"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let of_step = |plan: LogicalPlan| {
            let mut schema = merge_schema(&plan.inputs());
            schema.merge(plan.schema());
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let compared = expr
                    .transform_up(|expr| in_double(expr, &schema).transform_data(|expr| Ok(compared(expr, &schema))))?;
                Ok(compared.update_data(|expr| name.restore(expr)))
            })
        };
        Ok(plan.transform_up_with_subqueries(of_step)?.data)
    }
}

/// Functions whose arguments meet in one type.
const CHOOSING: [&str; 6] = ["coalesce", "greatest", "least", "nullif", "nvl", "ifnull"];

/// Decimals that meet numbers which are not exact are taken as such: a DOUBLE that were made a decimal would lose its
/// digits, or not fit.
fn in_double(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let is = |of: fn(&DataType) -> bool| move |operand: &&Expr| operand.get_type(schema).is_ok_and(|told| of(&told));
    let (is_float, is_decimal) = (is(DataType::is_floating), is(DataType::is_decimal));
    let meet = |operands: &[&Expr]| operands.iter().any(is_float) && operands.iter().any(is_decimal);
    let double = |operand: Expr| match is_float(&&operand) || is_decimal(&&operand) {
        true => cast(operand, DataType::Float64),
        false => operand,
    };
    let boxed = |operand: Box<Expr>| Box::new(double(*operand));
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) && meet(&[&left, &right]) => {
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: boxed(left), op, right: boxed(right) }))
        }
        Expr::Between(Between { expr, negated, low, high }) if meet(&[&expr, &low, &high]) => {
            Transformed::yes(Expr::Between(Between { expr: boxed(expr), negated, low: boxed(low), high: boxed(high) }))
        }
        Expr::InList(InList { expr, list, negated })
            if meet(&[&[&*expr], &*list.iter().collect::<Vec<_>>()].concat()) =>
        {
            let list = list.into_iter().map(double).collect();
            Transformed::yes(Expr::InList(InList { expr: boxed(expr), list, negated }))
        }
        Expr::ScalarFunction(ScalarFunction { func, args })
            if CHOOSING.contains(&func.name()) && meet(&args.iter().collect::<Vec<_>>()) =>
        {
            let args = args.into_iter().map(double).collect();
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
        Expr::Case(Case { expr, when_then_expr, else_expr })
            if meet(
                &when_then_expr.iter().map(|(_, then)| &**then).chain(else_expr.as_deref()).collect::<Vec<_>>(),
            ) =>
        {
            let when_then_expr = when_then_expr.into_iter().map(|(when, then)| (when, boxed(then))).collect();
            Transformed::yes(Expr::Case(Case { expr, when_then_expr, else_expr: else_expr.map(boxed) }))
        }
        other => Transformed::no(other),
    }
}

fn compared(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let is_decimal = |operand: &Expr| operand.get_type(schema).is_ok_and(|of| of.is_decimal());
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) && is_decimal(&left) => {
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right: read(right) }))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) && is_decimal(&right) => {
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: read(left), op, right }))
        }
        Expr::Between(Between { expr, negated, low, high }) if is_decimal(&expr) => {
            Transformed::yes(Expr::Between(Between { expr, negated, low: read(low), high: read(high) }))
        }
        Expr::InList(InList { expr, list, negated }) if is_decimal(&expr) => {
            let list = list.into_iter().map(|item| number(&item).unwrap_or(item)).collect();
            Transformed::yes(Expr::InList(InList { expr, list, negated }))
        }
        other => Transformed::no(other),
    }
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// The same operand, but for a literal text the number.
fn read(operand: Box<Expr>) -> Box<Expr> {
    number(&operand).map_or(operand, Box::new)
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
