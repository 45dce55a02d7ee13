//! Sums, differences and products of integers are BIGINT, as in MySQL (*Arithmetic Operators*), and an error where they do not
//! fit in it; so is `sum`, also of decimals. DataFusion keeps the type of the operands, and what does not fit wraps around.

use std::sync::Arc;

use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, Window, cast,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr_common::datum::apply;
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans operators between integers.
#[derive(Debug)]
pub struct Integers;

impl ExprPlanner for Integers {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>, DataFusionError> {
        let operator = match expr.op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Times,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let of = |operand: &Expr| operand.get_type(schema).ok().filter(DataType::is_integer);
        let (Some(left), Some(right)) = (of(&expr.left), of(&expr.right)) else {
            return Ok(PlannerResult::Original(expr));
        };
        // of a BIGINT and a row's number, or a literal beyond BIGINT, the engine makes decimals
        let are_mixed = |a: &DataType, b: &DataType| *a == DataType::UInt64 && b.is_signed_integer();
        if are_mixed(&left, &right) || are_mixed(&right, &left) {
            return Ok(PlannerResult::Original(expr));
        }
        let bigint = |operand, of| if of == DataType::Int64 { operand } else { cast(operand, DataType::Int64) };
        let operands = vec![bigint(expr.left, left), bigint(expr.right, right)];
        let call = ScalarFunction::new_udf(Arc::new(ScalarUDF::from(Exactly::new(operator))), operands);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// Adds up BIGINTs and long decimals as longer decimals, and casts what comes out back: it fits, or is an error. To be added
/// before the rules of the engine, which make BIGINTs of smaller integers.
#[derive(Debug)]
pub struct Sums;

impl AnalyzerRule for Sums {
    fn name(&self) -> &'static str {
        "sums"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan, DataFusionError> {
        Ok(plan.transform_up_with_subqueries(add_up)?.data)
    }
}

/// The type in which values of a type are added up, where their own may not hold the sum.
fn wide(summands: &DataType) -> Option<DataType> {
    match summands {
        DataType::Int64 => Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)),
        // the engine adds ten digits, as far as there are so many
        DataType::Decimal128(digits, scale) if *digits > DECIMAL128_MAX_PRECISION - 10 => {
            Some(DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale))
        }
        _ => None,
    }
}

fn add_up(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>, DataFusionError> {
    let (LogicalPlan::Aggregate(Aggregate { input, .. }) | LogicalPlan::Window(Window { input, .. })) = &plan else {
        return Ok(Transformed::no(plan));
    };
    let widen = |mut expr: Expr| {
        let operands = match &mut expr {
            Expr::AggregateFunction(function) if function.func.name() == "sum" => &mut function.params.args[..],
            Expr::WindowFunction(function) if function.fun.name() == "sum" => &mut function.params.args[..],
            _ => return Ok(Transformed::no(expr)),
        };
        let [operand] = operands else { return Ok(Transformed::no(expr)) };
        let Some(wide) = wide(&operand.get_type(input.schema())?) else { return Ok(Transformed::no(expr)) };
        *operand = cast(std::mem::take(operand), wide);
        Ok(Transformed::yes(expr))
    };
    // the engine still has to find out what `grouping` means here, and then finds the columns no more
    if plan.expressions().iter().any(is_grouping) {
        return Ok(Transformed::no(plan));
    }
    let widened = plan.clone().map_expressions(|expr| expr.transform_up(widen))?;
    if !widened.transformed {
        return Ok(Transformed::no(plan));
    }
    let sums = widened.data.recompute_schema()?;
    let same_type = |((qualifier, before), (_, after)): ((Option<&TableReference>, &FieldRef), (_, &FieldRef))| {
        let name = |field: &FieldRef| Column::new(qualifier.cloned(), field.name());
        match before == after {
            true => Expr::Column(name(before)),
            false => cast(Expr::Column(name(after)), before.data_type().clone())
                .alias_qualified(qualifier.cloned(), before.name()),
        }
    };
    let columns = plan.schema().iter().zip(sums.schema().iter()).map(same_type).collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(sums))?)))
}

fn is_grouping(expr: &Expr) -> bool {
    let names_it = |expr: &Expr| Ok(matches!(expr, Expr::AggregateFunction(f) if f.func.name() == "grouping"));
    expr.exists(names_it).unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operator {
    Plus,
    Minus,
    Times,
}

/// An operator between two BIGINTs.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exactly {
    operator: Operator,
    signature: Signature,
}

impl Exactly {
    fn new(operator: Operator) -> Exactly {
        let signature = Signature::exact(vec![DataType::Int64, DataType::Int64], Volatility::Immutable);
        Exactly { operator, signature }
    }

    /// Names tell plans apart, so those of `(a + b) * c` and `a + b * c` must differ.
    fn between(&self, args: &[Expr], shown: impl Fn(&Expr) -> String) -> String {
        let shown = |operand: &Expr| match operand {
            Expr::Column(_) | Expr::Literal(..) => shown(operand),
            _ => format!("({})", shown(operand)),
        };
        args.iter().map(shown).collect::<Vec<_>>().join(&format!(" {} ", self.name()))
    }
}

impl ScalarUDFImpl for Exactly {
    fn name(&self) -> &str {
        match self.operator {
            Operator::Plus => "+",
            Operator::Minus => "-",
            Operator::Times => "*",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let operands: Result<[ColumnarValue; 2], _> = args.args.try_into();
        let [left, right] =
            operands.map_err(|_| DataFusionError::Internal(format!("{} takes two operands", self.name())))?;
        match self.operator {
            Operator::Plus => apply(&left, &right, numeric::add),
            Operator::Minus => apply(&left, &right, numeric::sub),
            Operator::Times => apply(&left, &right, numeric::mul),
        }
    }

    fn display_name(&self, args: &[Expr]) -> Result<String, DataFusionError> {
        Ok(self.between(args, Expr::to_string))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String, DataFusionError> {
        Ok(self.between(args, |expr| expr.schema_name().to_string()))
    }
}
