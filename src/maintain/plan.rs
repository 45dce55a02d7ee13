//! Which files are worth writing again, and which of them together.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use datafusion::scalar::ScalarValue;

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
    /// What is known of a large one beside that.
    pub large: Option<Large>,
}

/// Where the rows of a large file lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Large {
    /// Its layer, by the name that the files of one share; none if another writer wrote it.
    pub layer: Option<String>,
    /// The least and the most of the first column of the key, if that is known.
    pub keys: Option<(ScalarValue, ScalarValue)>,
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
    /// Layers that are too many for one key. Two of one layer may meet in a key, as far as bounds tell, so that fewer than
    /// four are not sure to become fewer.
    layers: usize,
    /// Whether files of other writers count, each as a layer.
    others: bool,
    /// Bytes of large files that are written again together, at most.
    bytes: u64,
}

impl Thresholds {
    /// Whatever improves the table.
    pub const ALL: Thresholds =
        Thresholds { together: 2, dead_percent: 1, least_dead: 1, layers: 4, others: true, bytes: 2 << 30 };
    /// What has grown since it was last looked after, so that each row is rewritten a few times at most, and a run takes no
    /// longer for what it did not bring.
    pub const OVERDUE: Thresholds =
        Thresholds { together: 10, dead_percent: 20, least_dead: 10_000, layers: 8, others: false, bytes: 1 << 30 };
}

impl Thresholds {
    fn is_worth_a_purge(&self, dead: u64, rows: u64) -> bool {
        dead >= self.least_dead && dead * 100 >= rows * self.dead_percent
    }
}

/// The size that small files are brought to.
const TARGET: u64 = 128 << 20;
/// Small ones that have as much together are not worth waiting for more of them.
const FULL: u64 = 96 << 20;
/// A class of small files holds sizes up to this factor apart: a large one is not rewritten for each tiny one that comes.
const CLASS: u64 = 8;

/// Groups of file numbers to write again, each as one commit; a group's files are of one partition.
pub fn groups(files: &[FileFacts], thresholds: Thresholds) -> Vec<Vec<usize>> {
    let mut groups = vec![];
    let mut small: BTreeMap<(&str, u32), Vec<&FileFacts>> = BTreeMap::new();
    let mut large: BTreeMap<&str, Vec<(&FileFacts, &Large)>> = BTreeMap::new();
    for file in files {
        if let Some(of_large) = &file.large {
            large.entry(&file.partition).or_default().push((file, of_large));
        } else {
            let class = if thresholds.together == Thresholds::ALL.together { 0 } else { class(file.bytes) };
            small.entry((&file.partition, class)).or_default().push(file);
        }
    }
    for files in small.into_values() {
        groups.extend(packed(&files, thresholds));
    }
    for files in large.into_values() {
        let clustered = clustered(&files, thresholds).unwrap_or_default();
        let purged = files.iter().map(|(file, _)| file).filter(|file| !clustered.contains(&file.number));
        let purged = purged.filter(|file| thresholds.is_worth_a_purge(file.dead, file.rows));
        groups.extend(purged.map(|file| vec![file.number]));
        groups.extend(Some(clustered).filter(|files| !files.is_empty()));
    }
    groups
}

/// A file whose keys lie in a range.
#[derive(Clone, Copy)]
struct Ranged<'a> {
    file: &'a FileFacts,
    layer: Layer<'a>,
    least: &'a ScalarValue,
    most: &'a ScalarValue,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Layer<'a> {
    Named(&'a str),
    /// A file of another writer.
    Alone(usize),
}

/// Of the large files of a partition those that may hold the key which may lie in the most layers, if these are too many:
/// of the smallest layers as many as may be written together. Afterwards that key lies in one layer instead of all these,
/// and no other key in more than before, but for those that two files of a layer meet in.
fn clustered(files: &[(&FileFacts, &Large)], thresholds: Thresholds) -> Option<Vec<usize>> {
    let ranged = files.iter().filter_map(|(file, large)| {
        let alone = thresholds.others.then_some(Layer::Alone(file.number));
        let (least, most) = large.keys.as_ref()?;
        Some(Ranged { file, layer: large.layer.as_deref().map(Layer::Named).or(alone)?, least, most })
    });
    let ranged: Vec<_> = ranged.collect();
    let (depth, key) = deepest(&ranged)?;
    if depth < thresholds.layers {
        return None;
    }
    let mut layers: BTreeMap<Layer, (u64, Vec<usize>)> = BTreeMap::new();
    for Ranged { file, layer, .. } in ranged.iter().filter(|file| file.least <= key && key <= file.most) {
        let (bytes, numbers) = layers.entry(*layer).or_default();
        *bytes += file.bytes;
        numbers.push(file.number);
    }
    let mut layers: Vec<_> = layers.into_values().collect();
    layers.sort_unstable();
    let mut room = thresholds.bytes;
    let fitting = layers.into_iter().map_while(|(bytes, numbers)| {
        room = room.checked_sub(bytes)?;
        Some(numbers)
    });
    let fitting: Vec<_> = fitting.collect();
    (fitting.len() > 1).then(|| fitting.concat())
}

/// The most layers that a key may lie in, and such a key.
fn deepest<'a>(files: &[Ranged<'a>]) -> Option<(usize, &'a ScalarValue)> {
    let by = |end: fn(&Ranged<'a>) -> &'a ScalarValue| {
        let mut files = files.to_vec();
        files.sort_by(|a, b| end(a).partial_cmp(end(b)).unwrap_or(Ordering::Equal));
        files
    };
    let (mut layers, mut deepest) = (HashMap::<Layer, usize>::new(), None);
    let mut behind = by(|file| file.most).into_iter().peekable();
    for Ranged { layer, least, .. } in by(|file| file.least) {
        *layers.entry(layer).or_default() += 1;
        while let Some(file) = behind.next_if(|file| file.most < least) {
            match layers.get_mut(&file.layer) {
                Some(files) if *files > 1 => *files -= 1,
                _ => drop(layers.remove(&file.layer)),
            }
        }
        if deepest.is_none_or(|(depth, _)| layers.len() > depth) {
            deepest = Some((layers.len(), least));
        }
    }
    deepest
}

fn class(bytes: u64) -> u32 {
    (bytes / (16 << 10)).max(1).ilog(CLASS)
}

/// Small files of one partition and class, in their order, packed up to the target size.
fn packed(files: &[&FileFacts], thresholds: Thresholds) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<&FileFacts>> = vec![];
    let mut bytes = TARGET;
    for file in files {
        if bytes + file.bytes > TARGET {
            groups.push(vec![]);
            bytes = 0;
        }
        bytes += file.bytes;
        if let Some(group) = groups.last_mut() {
            group.push(file);
        }
    }
    let sum = |group: &[&FileFacts], of: fn(&FileFacts) -> u64| group.iter().map(|file| of(file)).sum::<u64>();
    groups.retain(|group| {
        group.len() >= thresholds.together
            || (group.len() > 1 && sum(group, |file| file.bytes) >= FULL)
            || thresholds.is_worth_a_purge(sum(group, |file| file.dead), sum(group, |file| file.rows))
    });
    groups.into_iter().map(|group| group.into_iter().map(|file| file.number).collect()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    /// A file, and a large one if it has more than 32 MB; its keys lie apart from those of the others.
    fn file(number: usize, megabytes: u64, dead: u64) -> FileFacts {
        let keys = (number as i64 * 10, number as i64 * 10 + 9);
        let large = (megabytes >= 32).then(|| large(&format!("file {number}"), keys));
        FileFacts { number, partition: String::new(), bytes: megabytes << 20, rows: 1_000_000, dead, large }
    }

    fn large(layer: &str, (least, most): (i64, i64)) -> Large {
        let key = |key| ScalarValue::Int64(Some(key));
        Large { layer: Some(layer.to_string()), keys: Some((key(least), key(most))) }
    }

    /// Large files, by layer and the range of their keys.
    fn large_files(files: &[(&str, (i64, i64))]) -> Vec<FileFacts> {
        let file = |(number, (layer, keys)): (usize, &(&str, _))| FileFacts {
            large: Some(large(layer, *keys)),
            ..file(number, 100, 0)
        };
        files.iter().enumerate().map(file).collect()
    }

    #[test]
    fn small_files_are_packed_and_large_ones_left() {
        let files = [file(0, 200, 0), file(1, 1, 0), file(2, 1, 0)];
        assert_eq!(groups(&files, Thresholds::ALL), [vec![1, 2]]);
        assert!(groups(&files, Thresholds::OVERDUE).is_empty());
    }

    #[test]
    fn small_files_that_fill_a_large_one_are_not_left_to_grow_more() {
        let files: Vec<_> = (0..10).map(|i| file(i, 16, 0)).collect();
        assert_eq!(groups(&files, Thresholds::OVERDUE), [(0..8).collect::<Vec<_>>()]);
        assert!(groups(&files[..5], Thresholds::OVERDUE).is_empty());
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

    #[test]
    fn large_files_that_hold_one_key_are_clustered_once_they_are_too_many() {
        let mut files = large_files(&[("a", (0, 9)), ("a", (10, 19)), ("b", (0, 19)), ("c", (5, 30)), ("d", (12, 12))]);
        assert_eq!(groups(&files, Thresholds::ALL), [vec![1, 2, 3, 4]]);
        assert!(groups(&files, Thresholds::OVERDUE).is_empty());
        files[3].partition = "other".into();
        assert!(groups(&files, Thresholds::ALL).is_empty());
    }

    #[test]
    fn files_of_one_layer_lie_apart_whatever_their_bounds_say() {
        assert!(groups(&large_files(&[("a", (1, 1)); 9]), Thresholds::ALL).is_empty());
        assert_eq!(groups(&large_files(&["a", "b", "c", "d"].map(|layer| (layer, (1, 1)))), Thresholds::ALL).len(), 1);
    }

    #[test]
    fn files_of_other_writers_are_layers_of_their_own_and_left_to_maintain() {
        let mut files = large_files(&[("a", (0, 9)); 9]);
        files.iter_mut().flat_map(|file| &mut file.large).for_each(|large| large.layer = None);
        assert_eq!(groups(&files, Thresholds::ALL), [(0..9).collect::<Vec<_>>()]);
        assert!(groups(&files, Thresholds::OVERDUE).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_left_and_the_smallest_layers_come_first() {
        let layers = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut files = large_files(&layers.map(|layer| (layer, (0, 9))));
        files[0].bytes = 700 << 20;
        files[1].bytes = 800 << 20;
        let mut group = groups(&files, Thresholds::OVERDUE).concat();
        group.sort_unstable();
        assert_eq!(group, [2, 3, 4, 5, 6, 7]);
        files.iter_mut().for_each(|file| file.bytes = 1 << 30);
        assert!(groups(&files, Thresholds::OVERDUE).is_empty());
    }

    /// Files as they are written again, each with its layer and its keys. Of every `coarse` keys the bounds tell but one.
    struct Simulated {
        files: Vec<(String, Vec<i64>)>,
        coarse: i64,
    }

    impl Simulated {
        fn facts(&self) -> Vec<FileFacts> {
            let bound = |key: Option<&i64>| key.copied().unwrap_or_default().div_euclid(self.coarse);
            let fact = |(number, (layer, keys)): (usize, &(String, Vec<i64>))| {
                let large = large(layer, (bound(keys.first()), bound(keys.last())));
                FileFacts { large: Some(large), ..file(number, keys.len() as u64, 0) }
            };
            self.files.iter().enumerate().map(fact).collect()
        }

        /// Writes a group again as a new layer.
        fn replace(&mut self, group: &[usize], layer: usize) {
            let mut keys: Vec<_> = group.iter().flat_map(|&file| self.files[file].1.clone()).collect();
            keys.sort_unstable();
            let mut number = 0;
            self.files.retain(|_| {
                number += 1;
                !group.contains(&(number - 1))
            });
            self.files.extend(keys.chunks(8).map(|keys| (format!("new {layer}"), keys.to_vec())));
        }

        /// The most layers that hold one key.
        fn depth(&self) -> usize {
            let facts = self.facts();
            let ranges: Vec<_> =
                facts.iter().flat_map(|file| &file.large).map(|f| (f.layer.clone(), f.keys.clone())).collect();
            let at = |key: &ScalarValue| {
                let there = ranges.iter().filter(|(_, keys)| keys.as_ref().is_some_and(|(a, b)| a <= key && key <= b));
                there.map(|(layer, _)| layer.clone()).collect::<std::collections::BTreeSet<_>>().len()
            };
            ranges.iter().flat_map(|(_, keys)| keys).map(|(least, _)| at(least)).max().unwrap_or_default()
        }
    }

    proptest! {
        #[test]
        fn clustering_comes_to_an_end_with_few_layers(
            files in vec(btree_set(0i64..200, 1..12), 1..24), coarse in prop_oneof![Just(1), Just(10), Just(1000)],
        ) {
            let count: usize = files.iter().map(|keys| keys.len()).sum();
            let named = |(number, keys): (usize, std::collections::BTreeSet<i64>)| {
                (format!("old {number}"), keys.into_iter().collect())
            };
            let mut table = Simulated { files: files.into_iter().enumerate().map(named).collect(), coarse };
            let mut steps = 0;
            while let Some(group) = groups(&table.facts(), Thresholds::ALL).first() {
                prop_assert!(steps < 50, "it goes on and on");
                table.replace(group, steps);
                steps += 1;
            }
            prop_assert!(table.depth() < Thresholds::ALL.layers);
            prop_assert_eq!(table.files.iter().map(|(_, keys)| keys.len()).sum::<usize>(), count);
        }
    }
}
