//! Which rows may have one of the keys that are looked for, told before each is looked up in a hash table: where rows come
//! by key, as those of our files do, one look through both takes a fraction of the time.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, downcast_primitive_array, make_comparator,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

/// Where more rows than one in so many have a key, all of them are looked up.
const FEW: usize = 8;

/// `may_be_among`, a function of the column of which `keys` are values: ascending, and several of them may be the same.
pub fn may_be_among(keys: ArrayRef) -> ScalarUDF {
    let of = vec![keys.data_type().clone()];
    let mark = move |arguments: &[ColumnarValue]| {
        let values = ColumnarValue::values_to_arrays(arguments)?;
        Ok(ColumnarValue::Array(Arc::new(marked(&values[0], &keys)?)))
    };
    create_udf("may_be_among", of, DataType::Boolean, Volatility::Immutable, Arc::new(mark))
}

/// True for those of `values` that are among `keys`, and for all where the values do not ascend.
fn marked(values: &ArrayRef, keys: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let all = BooleanArray::new(BooleanBuffer::new_set(values.len()), None);
    let has_nulls = values.null_count() + keys.null_count() > 0;
    let Some(last) = values.len().checked_sub(1).filter(|_| !has_nulls) else { return Ok(all) };
    if !ascend(values)? {
        return Ok(all);
    }
    let compare = make_comparator(values, keys, SortOptions::default())?;
    let from = first_not(0..keys.len(), |key| compare(0, key).is_gt());
    let to = first_not(from..keys.len(), |key| compare(last, key).is_ge());
    if (to - from) * FEW > values.len() {
        return Ok(all);
    }
    let mut marks = BooleanBufferBuilder::new(values.len());
    marks.append_n(values.len(), false);
    let mut row = 0;
    for key in from..to {
        row = first_not(row..values.len(), |row| compare(row, key).is_lt());
        while row < values.len() && compare(row, key).is_eq() {
            marks.set_bit(row, true);
            row += 1;
        }
    }
    Ok(BooleanArray::new(marks.finish(), None))
}

fn ascend(values: &ArrayRef) -> Result<bool, ArrowError> {
    Ok(downcast_primitive_array!(
        values => values.values().is_sorted(),
        _ => {
            let compare = make_comparator(values, values, SortOptions::default())?;
            (1..values.len()).all(|row| compare(row - 1, row).is_le())
        }
    ))
}

/// The first number in `range` that is not before, where all that are stand at its beginning; the end where all are.
pub fn first_not(range: Range<usize>, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low.midpoint(high);
        if is_before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn numbers(numbers: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(numbers.to_vec()))
    }

    fn texts(numbers: &[i64]) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(numbers.iter().map(|number| format!("{:04}", number + 1000))))
    }

    proptest! {
        #[test]
        fn of_rows_in_order_just_those_with_a_key_are_marked(
            mut values in vec(-300i64..300, 0..200), mut keys in vec(-300i64..300, 0..25),
        ) {
            values.sort_unstable();
            keys.sort_unstable();
            for column in [numbers, texts] {
                let marks = marked(&column(&values), &column(&keys)).unwrap();
                let within = keys.iter().filter(|key| values.first() <= Some(key) && Some(*key) <= values.last()).count();
                for (mark, value) in marks.iter().zip(&values) {
                    prop_assert_eq!(mark, Some(within * FEW > values.len() || keys.contains(value)));
                }
            }
        }

        #[test]
        fn no_row_with_a_key_is_passed_over(values in vec(-9i64..9, 0..40), mut keys in vec(-9i64..9, 0..9)) {
            keys.sort_unstable();
            for column in [numbers, texts] {
                let marks = marked(&column(&values), &column(&keys)).unwrap();
                let may_be = marks.iter().zip(&values).all(|(mark, value)| mark == Some(true) || !keys.contains(value));
                prop_assert!(may_be);
            }
        }
    }

    #[test]
    fn where_there_are_nulls_all_rows_may_be_among_the_keys() {
        let some: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1), Some(2)]));
        assert_eq!(marked(&some, &numbers(&[7])).unwrap().true_count(), 3);
        assert_eq!(marked(&numbers(&[5, 6, 9]), &some).unwrap().true_count(), 3);
    }
}
