//! How far changes have come by what the source itself tells of them: a task that is resumed from an earlier point writes
//! a stretch of changes again, in new files.

use std::sync::Arc;

use chrono::DateTime;
use datafusion::arrow::array::cast::AsArray;
use datafusion::arrow::array::types::TimestampMicrosecondType;
use datafusion::arrow::compute::max;
use lakemerge_source::dms::records::Rows;

/// The greatest time, and the order of the change sequences, of changes that follow one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The time of the newest change as `yyyyMMddHHmmss` and four digits of fraction: of its change sequence, or else of
    /// its commit; 0 where neither is told.
    pub mark: i64,
    /// How many changes have a smaller change sequence than the one before them.
    pub disagreements: u64,
    /// File and record of the first of these.
    pub first: Option<(Arc<str>, u64)>,
    begins: Option<Change>,
    ends: Option<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    sequence: String,
    file: Arc<str>,
    record: u64,
}

impl Progress {
    /// Whether all these changes are older than those up to `mark`.
    pub fn is_before(&self, mark: i64) -> bool {
        0 < self.mark && self.mark < mark
    }

    /// Takes in the changes of `file` that follow.
    pub fn observe(&mut self, file: &Arc<str>, rows: &Rows) {
        let Some(sequences) = &rows.sequences else {
            let times =
                rows.commit_times.as_ref().and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
            self.mark = self.mark.max(times.and_then(max).and_then(mark_of_time).unwrap_or_default());
            return;
        };
        for (row, sequence) in sequences.iter().enumerate() {
            let Some(sequence) = sequence else { continue };
            // seldom is one not greater than the last, and then it must be kept
            if let Some(ends) = self.ends.as_mut().filter(|ends| !is_less(sequence, &ends.sequence)) {
                ends.sequence.clear();
                ends.sequence.push_str(sequence);
                ends.file.clone_from(file);
                ends.record = rows.record(row);
                continue;
            }
            let change = Change { sequence: sequence.to_string(), file: Arc::clone(file), record: rows.record(row) };
            self.take(change.clone(), change);
        }
        let greatest = self.ends.as_ref().and_then(|ends| mark_of_sequence(&ends.sequence));
        self.mark = self.mark.max(greatest.unwrap_or_default());
    }

    /// Takes in what follows.
    pub fn then(&mut self, next: Progress) {
        self.mark = self.mark.max(next.mark);
        if let (Some(begins), Some(ends)) = (next.begins, next.ends) {
            self.take(begins, ends);
        }
        self.disagreements += next.disagreements;
        self.first = self.first.take().or(next.first);
    }

    fn take(&mut self, begins: Change, ends: Change) {
        if self.ends.as_ref().is_some_and(|before| is_less(&begins.sequence, &before.sequence)) {
            self.disagreements += 1;
            self.first.get_or_insert_with(|| (Arc::clone(&begins.file), begins.record));
        }
        self.begins.get_or_insert(begins);
        self.ends = Some(ends);
    }
}

/// `$AR_H_CHANGE_SEQ` is a number: 16 digits of a time and 19 that count.
fn is_less(one: &str, other: &str) -> bool {
    (one.len(), one) < (other.len(), other)
}

fn mark_of_sequence(sequence: &str) -> Option<i64> {
    let time =
        sequence.get(..16).filter(|time| sequence.len() == 35 && time.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(time.parse::<i64>().ok()? * 100)
}

fn mark_of_time(micros: i64) -> Option<i64> {
    let time = DateTime::from_timestamp_micros(micros)?;
    let digits = format!("{}{:04}", time.format("%Y%m%d%H%M%S"), time.timestamp_subsec_micros() / 100);
    digits.parse().ok().filter(|mark| *mark > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(file: &str, sequences: &[&str]) -> Progress {
        let mut progress = Progress::default();
        for (record, sequence) in (1..).zip(sequences) {
            let change = Change { sequence: (*sequence).to_string(), file: file.into(), record };
            progress.take(change.clone(), change);
        }
        progress
    }

    #[test]
    fn a_smaller_sequence_is_told_within_a_file_and_between_files() {
        let mut all = progress("a", &["7", "8", "8", "10"]);
        assert_eq!(all.disagreements, 0);
        all.then(progress("b", &["9", "11", "10"]));
        all.then(Progress::default());
        all.then(progress("c", &["10"]));
        assert_eq!((all.disagreements, all.first), (2, Some(("b".into(), 1))));
    }

    #[test]
    fn marks_of_sequences_and_times_compare() {
        let sequence = format!("2024010203040506{:019}", 7);
        assert_eq!(mark_of_sequence(&sequence), Some(202_401_020_304_050_600));
        assert_eq!(mark_of_sequence("123"), None);
        assert_eq!(mark_of_time(1_704_164_645_060_000), Some(202_401_020_304_050_600));
        assert_eq!(mark_of_time(-1), Some(196_912_312_359_599_999));
    }
}
