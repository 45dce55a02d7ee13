//! What the engine would answer wrongly is refused.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use super::QueryError;

/// Passes a plan, unless a subquery's NULLs matter where the engine forgets them: it makes a join of `IN (SELECT …)` that
/// tells only whether there is a match, and not that it is unknown.
pub fn check(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut wrong = None;
    plan.apply_with_subqueries(|node| {
        let of_filter = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
        let start = if of_filter { Place::Condition } else { Place::Value };
        node.apply_expressions(|expr| {
            wrong = wrong.take().or_else(|| forgotten(expr, start, node));
            Ok(TreeNodeRecursion::Continue)
        })
    })
    .map_err(|error: DataFusionError| QueryError::from(error))?;
    match wrong {
        Some(expr) => Err(QueryError::sql(format!(
            "{expr} may be NULL here, which is not carried out: write it as [NOT] EXISTS (SELECT … WHERE …), or leave NULLs out \
             (WHERE … IS NOT NULL)"
        ))),
        None => Ok(()),
    }
}

/// What becomes of an expression that is NULL.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// It is one of the conditions that all must hold: NULL is as good as false.
    Condition,
    /// The same, beside others of which one must hold.
    Alternative,
    /// It matters.
    Value,
}

/// The first part of `expr` that is forgotten to be NULL.
fn forgotten(expr: &Expr, place: Place, node: &LogicalPlan) -> Option<String> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            forgotten(left, place, node).or_else(|| forgotten(right, place, node))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let place = if place == Place::Value { place } else { Place::Alternative };
            forgotten(left, place, node).or_else(|| forgotten(right, place, node))
        }
        Expr::Not(inner) if place == Place::Condition => match inner.as_ref() {
            Expr::InSubquery(_) => None,
            inner => forgotten(inner, Place::Value, node),
        },
        Expr::InSubquery(InSubquery { expr: of, subquery, negated }) => {
            let is_told = match place {
                Place::Condition => true,
                Place::Alternative => !negated,
                Place::Value => false,
            };
            let values = subquery.subquery.schema();
            let inputs = node.inputs();
            let may_be_null = values.fields().iter().any(|field| field.is_nullable())
                || inputs.iter().all(|input| of.nullable(input.schema()).unwrap_or(true));
            let not = if *negated { "NOT " } else { "" };
            (!is_told && may_be_null).then(|| format!("{of} {not}IN (SELECT …)"))
        }
        other => {
            let mut found = None;
            let _ = other.apply_children(|child| {
                found = found.take().or_else(|| forgotten(child, Place::Value, node));
                Ok(TreeNodeRecursion::Continue)
            });
            found
        }
    }
}
