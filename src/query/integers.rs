//! Sums, differences and products of integers are BIGINT, as in MySQL (*Arithmetic Operators*), and an error where they do not
//! fit in it. DataFusion keeps the type of the operands, and what does not fit wraps around.

use std::sync::Arc;

use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
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
        let is_integer = |expr: &Expr| expr.get_type(schema).is_ok_and(|data_type| data_type.is_integer());
        if !is_integer(&expr.left) || !is_integer(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let function = ScalarUDF::from(Exactly::new(operator));
        let call = ScalarFunction::new_udf(Arc::new(function), vec![expr.left, expr.right]);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
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

    fn between(&self, args: &[Expr], shown: impl Fn(&Expr) -> String) -> String {
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
