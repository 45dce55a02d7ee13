//! `IS [NOT] DISTINCT FROM` binds as tightly as `IS NULL`.
//!
//! The parser takes all that follows for its right side: of `a IS DISTINCT FROM true AND b = 1` it makes
//! `a IS DISTINCT FROM (true AND b = 1)`. What stands in parentheses it keeps apart, so the order can be told again.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value, VisitorMut};

use super::identifiers;

/// Gives every operator of a statement the operands that it has by its precedence.
pub fn settle(statement: &mut Statement) {
    if identifiers::visit(statement, &mut Find).is_break() {
        let _ = identifiers::visit(statement, &mut Settle);
    }
}

struct Find;

impl VisitorMut for Find {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

struct Settle;

impl VisitorMut for Settle {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let nothing = Expr::Value(Value::Null.into());
        *expr = Alternatives::of(std::mem::replace(expr, nothing)).together();
        ControlFlow::Continue(())
    }
}

/// Conditions as they stand one behind the other: those of each group are joined by AND, the groups by OR.
struct Alternatives(Vec<Vec<Expr>>);

impl Alternatives {
    fn of(expr: Expr) -> Alternatives {
        match expr {
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => Self::of(*left).and(Self::of(*right)),
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => Self::of(*left).or(Self::of(*right)),
            Expr::IsDistinctFrom(left, right) => {
                Self::of(*right).with_first(|first| Expr::IsDistinctFrom(left, Box::new(first)))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                Self::of(*right).with_first(|first| Expr::IsNotDistinctFrom(left, Box::new(first)))
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                Self::of(*expr).with_first(|first| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(first) })
            }
            condition => Alternatives(vec![vec![condition]]),
        }
    }

    /// The last group goes on with the first one of `other`.
    fn and(mut self, mut other: Alternatives) -> Alternatives {
        if let Some(last) = self.0.last_mut() {
            last.append(&mut other.0.remove(0));
        }
        self.or(other)
    }

    fn or(mut self, mut other: Alternatives) -> Alternatives {
        self.0.append(&mut other.0);
        self
    }

    fn with_first(mut self, made: impl FnOnce(Expr) -> Expr) -> Alternatives {
        let first = self.0[0].remove(0);
        self.0[0].insert(0, made(first));
        self
    }

    fn together(self) -> Expr {
        let groups = self.0.into_iter().map(|group| joined(group, BinaryOperator::And)).collect();
        joined(groups, BinaryOperator::Or)
    }
}

fn joined(exprs: Vec<Expr>, op: BinaryOperator) -> Expr {
    let join = |left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) };
    exprs.into_iter().reduce(join).unwrap_or(Expr::Value(Value::Null.into()))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParserBuilder;
    use datafusion::sql::sqlparser::ast::{self, SelectItem, SetExpr};

    use super::*;

    /// `condition` is understood as `meant`, which has all its parentheses.
    fn check(condition: &str, meant: &str) {
        let sql = format!("SELECT {condition}");
        let mut statements = DFParserBuilder::new(sql.as_str()).build().unwrap().parse_statements().unwrap();
        settle(&mut statements[0]);
        let Statement::Statement(statement) = &statements[0] else { panic!("{sql}") };
        let ast::Statement::Query(query) = statement.as_ref() else { panic!("{sql}") };
        let SetExpr::Select(select) = query.body.as_ref() else { panic!("{sql}") };
        let [SelectItem::UnnamedExpr(expr)] = select.projection.as_slice() else { panic!("{sql}") };
        assert_eq!(with_parentheses(expr), meant);
    }

    fn with_parentheses(expr: &Expr) -> String {
        let shown = with_parentheses;
        match expr {
            Expr::BinaryOp { left, op, right } => format!("({} {op} {})", shown(left), shown(right)),
            Expr::IsDistinctFrom(left, right) => format!("({} IS DISTINCT FROM {})", shown(left), shown(right)),
            Expr::IsNotDistinctFrom(left, right) => format!("({} IS NOT DISTINCT FROM {})", shown(left), shown(right)),
            Expr::IsNull(expr) => format!("({} IS NULL)", shown(expr)),
            Expr::UnaryOp { op, expr } => format!("({op} {})", shown(expr)),
            Expr::Nested(expr) => shown(expr),
            Expr::Case { conditions, .. } => format!("CASE {} END", shown(&conditions[0].condition)),
            other => other.to_string(),
        }
    }

    #[test]
    fn distinct_from_ends_where_a_condition_ends() {
        check("a IS DISTINCT FROM true AND b = 1", "((a IS DISTINCT FROM true) AND (b = 1))");
        check("a IS NOT DISTINCT FROM b OR c", "((a IS NOT DISTINCT FROM b) OR c)");
        check("p OR q AND a IS DISTINCT FROM b OR c", "((p OR (q AND (a IS DISTINCT FROM b))) OR c)");
        check("NOT a IS DISTINCT FROM b AND c", "((NOT (a IS DISTINCT FROM b)) AND c)");
        check(
            "a IS DISTINCT FROM b AND c IS NOT DISTINCT FROM d OR e AND f",
            "(((a IS DISTINCT FROM b) AND (c IS NOT DISTINCT FROM d)) OR (e AND f))",
        );
    }

    #[test]
    fn what_is_in_parentheses_stays_there() {
        check("a IS DISTINCT FROM (b OR c) AND d", "((a IS DISTINCT FROM (b OR c)) AND d)");
        check("(a IS DISTINCT FROM b AND c) OR d", "(((a IS DISTINCT FROM b) AND c) OR d)");
        check("CASE WHEN a IS DISTINCT FROM b AND c THEN 1 END", "CASE ((a IS DISTINCT FROM b) AND c) END");
    }

    #[test]
    fn other_operators_are_as_they_were() {
        check(
            "a IS DISTINCT FROM b AND c AND (d OR e) AND NOT f",
            "((((a IS DISTINCT FROM b) AND c) AND (d OR e)) AND (NOT f))",
        );
        check("a + 1 IS DISTINCT FROM b * 2 OR c IS NULL", "(((a + 1) IS DISTINCT FROM (b * 2)) OR (c IS NULL))");
    }
}
