//! Which files are worth writing again, and which of them together.

use std::collections::BTreeMap;

/// What is known of a data file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileFacts {
    /// Its number in the table.
    pub number: usize,
    /// Equal for the files of one partition.
    pub partition: String,
    pub bytes: u64,
    pub rows: u64,
    pub dead: u64,
}

/// When a file is written again.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Files of one size class that are worth a rewrite.
    together: usize,
    /// Dead rows of a file or group, in percent, that are worth one.
    dead_percent: u64,
    /// Fewer dead rows than these cost less than a commit.
    least_dead: u64,
}

impl Thresholds {
    /// Whatever improves the table.
    pub const ALL: Thresholds = Thresholds { together: 2, dead_percent: 1, least_dead: 1 };
    /// What has grown since it was last looked after, so that each row is rewritten a few times at most.
    pub const OVERDUE: Thresholds = Thresholds { together: 10, dead_percent: 20, least_dead: 10_000 };
}

impl Thresholds {
    fn is_worth_a_purge(&self, dead: u64, rows: u64) -> bool {
        dead >= self.least_dead && dead * 100 >= rows * self.dead_percent
    }
}

/// The size that files are brought to.
const TARGET: u64 = 128 << 20;
/// Files below this are small.
const SMALL: u64 = 32 << 20;
/// A class of small files holds sizes up to this factor apart: a large one is not rewritten for each tiny one that comes.
const CLASS: u64 = 8;

/// Groups of file numbers to write again, each as one commit; a group's files are of one partition.
pub fn groups(files: &[FileFacts], thresholds: Thresholds) -> Vec<Vec<usize>> {
    let mut groups = vec![];
    let mut small: BTreeMap<(&str, u32), Vec<&FileFacts>> = BTreeMap::new();
    for file in files {
        if file.bytes < SMALL {
            let class = if thresholds.together == Thresholds::ALL.together { 0 } else { class(file.bytes) };
            small.entry((&file.partition, class)).or_default().push(file);
        } else if thresholds.is_worth_a_purge(file.dead, file.rows) {
            groups.push(vec![file.number]);
        }
    }
    for files in small.into_values() {
        groups.extend(packed(&files, thresholds));
    }
    groups
}

fn class(bytes: u64) -> u32 {
    (bytes / (16 << 10)).max(1).ilog(CLASS)
}

/// Small files of one partition and class, in their order, packed up to the target size.
fn packed(files: &[&FileFacts], thresholds: Thresholds) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![];
    let mut bytes = TARGET;
    for file in files {
        if bytes + file.bytes > TARGET {
            groups.push(vec![]);
            bytes = 0;
        }
        bytes += file.bytes;
        if let Some(group) = groups.last_mut() {
            group.push(file.number);
        }
    }
    let dead_of =
        |number: &usize| files.iter().find(|file| file.number == *number).map_or((0, 0), |f| (f.dead, f.rows));
    groups.retain(|group| {
        let (dead, rows) = group.iter().map(dead_of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        group.len() >= thresholds.together || thresholds.is_worth_a_purge(dead, rows)
    });
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: usize, megabytes: u64, dead: u64) -> FileFacts {
        FileFacts { number, partition: String::new(), bytes: megabytes << 20, rows: 1_000_000, dead }
    }

    #[test]
    fn small_files_are_packed_and_large_ones_left() {
        let files = [file(0, 200, 0), file(1, 1, 0), file(2, 1, 0)];
        assert_eq!(groups(&files, Thresholds::ALL), [vec![1, 2]]);
        assert!(groups(&files, Thresholds::OVERDUE).is_empty());
    }

    #[test]
    fn a_single_file_with_dead_rows_is_purged() {
        assert_eq!(groups(&[file(0, 200, 10_000)], Thresholds::ALL), [vec![0]]);
        assert!(groups(&[file(0, 200, 10_000)], Thresholds::OVERDUE).is_empty());
        assert_eq!(groups(&[file(0, 200, 200_000)], Thresholds::OVERDUE), [vec![0]]);
    }

    #[test]
    fn partitions_stay_apart_and_groups_stay_bounded() {
        let mut files: Vec<_> = (0..10).map(|i| file(i, 30, 0)).collect();
        files[9].partition = "other".into();
        assert_eq!(groups(&files, Thresholds::ALL), [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
    }

    #[test]
    fn a_table_of_one_clean_file_is_left_alone() {
        assert!(groups(&[file(0, 1, 0)], Thresholds::ALL).is_empty());
    }
}
