//! Which step follows from which files and which position.

use super::super::listing::Undated;
use super::*;

fn file(name: &str, modified: i64) -> RawFile {
    RawFile { modified, tag: modified.to_string(), ..RawFile::of(name, 10) }
}

fn listing(files: &[(&str, i64)]) -> Listing {
    let mut listing = Listing::default();
    for (name, modified) in files {
        let file = file(name, *modified);
        if stamp(&file).is_some() { listing.changes.push(file) } else { listing.loads.push(file) }
    }
    listing
}

fn wishes() -> Wishes {
    Wishes { max_file_size: 100, batch_bytes: 1000, late_window: DAY, ..Wishes::default() }
}

const A: &str = "20240101-000000001.csv";
const B: &str = "20240101-000000002.csv";
const LOAD: &str = "LOAD00000001.csv";

fn loaded(modified: i64) -> Vec<LoadedFile> {
    vec![LoadedFile { name: LOAD.into(), size: 10, tag: modified.to_string(), hash: String::new() }]
}

fn at(changes: Option<&str>, listed: i64) -> Position {
    let changes = changes.map(|name| stamp(&file(name, 0)).unwrap());
    Position { load_complete: true, changes, listed, swept: listed, ..Position::default() }
}

fn check(files: &[(&str, i64)], position: Position, wishes: &Wishes) -> Result<Vec<String>> {
    let load = loaded(1);
    let reached = Reached { position, load: &load };
    Ok(match next(&listing(files), Some(&reached), wishes)? {
        Next::Changes { files, .. } | Next::ContinueLoad { files, .. } | Next::Compare { files } => {
            files.into_iter().map(|file| file.name).collect()
        }
        Next::Nothing => vec![],
        other => vec![format!("{other:?}")],
    })
}

#[test]
fn changes_after_the_position_are_next() {
    assert_eq!(check(&[(LOAD, 1), (A, 2), (B, 3)], at(Some(A), 2), &wishes()).unwrap(), [B]);
    assert!(check(&[(LOAD, 1), (A, 2), (B, 3)], at(Some(B), 3), &wishes()).unwrap().is_empty());
}

#[test]
fn a_batch_ends_at_a_file_boundary_and_has_at_least_one() {
    let small = Wishes { batch_bytes: 5, ..wishes() };
    assert_eq!(check(&[(LOAD, 1), (A, 2), (B, 3)], at(None, 1), &small).unwrap(), [A]);
}

#[test]
fn until_leaves_later_changes_for_later() {
    let until = Wishes { until: stamp(&file(A, 0)), ..wishes() };
    assert_eq!(check(&[(LOAD, 1), (A, 2), (B, 3)], at(None, 1), &until).unwrap(), [A]);
}

#[test]
fn a_late_file_stops_unless_it_is_asked_for() {
    let files = [(LOAD, 1), (A, 9), (B, 3)];
    let error = check(&files, at(Some(B), 3), &wishes()).unwrap_err().to_string();
    assert!(error.contains(A) && error.contains("--include-late"), "{error}");
    // with all that is merged after it, in one commit however small a batch is
    let include = Wishes { include_late: true, batch_bytes: 1, ..wishes() };
    assert_eq!(check(&files, at(Some(B), 3), &include).unwrap(), [A, B]);
    let expires = Wishes { expired_before: stamp(&file(B, 0)), ..include };
    assert!(check(&files, at(Some(B), 3), &expires).unwrap_err().to_string().contains("raw_retention"));
}

#[test]
fn a_file_that_was_not_there_is_late_whatever_its_time() {
    let files = [(LOAD, 1), (A, 2), (B, 3)];
    let of_one = Position { day: 1, ..at(Some(B), 3) };
    let error = check(&files, of_one, &wishes()).unwrap_err().to_string();
    assert!(error.contains("--include-late"), "{error}");
    let include = Wishes { include_late: true, ..wishes() };
    assert_eq!(check(&files, of_one, &include).unwrap(), [A, B]);
    let merged = passed(of_one, stamp(&file(B, 0)), &listing(&files), false);
    assert!(check(&files, merged, &wishes()).unwrap().is_empty());
    // one that is gone is not one that came
    assert!(check(&[(LOAD, 1), (B, 3)], merged, &wishes()).unwrap().is_empty());
    let older = Position { older: stamp(&file(A, 0)), ..of_one };
    assert!(check(&files, older, &wishes()).unwrap().is_empty());
}

#[test]
fn a_file_of_the_quarantine_is_merged_again_with_what_came_after_it() {
    let files = [(LOAD, 1), (A, 2), (B, 3)];
    let again = |name: &str| Wishes { include_late: true, again: [file(name, 0).shown].into(), ..wishes() };
    assert_eq!(check(&files, at(Some(B), 3), &again(A)).unwrap(), [A, B]);
    assert_eq!(check(&files, at(Some(B), 3), &again(B)).unwrap(), [B]);
    assert!(check(&files, at(Some(B), 3), &again(LOAD)).unwrap().is_empty());
}

#[test]
fn a_load_written_again_is_compared_or_refused() {
    assert_eq!(check(&[(LOAD, 7)], at(None, 1), &wishes()).unwrap(), [LOAD]);
    let mut bigger = listing(&[(LOAD, 1)]);
    bigger.loads[0].size = 11;
    let load = loaded(1);
    let error = next(&bigger, Some(&Reached { position: at(None, 1), load: &load }), &wishes()).unwrap_err();
    assert!(error.to_string().contains("--reload TABLE"), "{error}");
}

#[test]
fn a_file_that_was_merged_and_is_gone_stops_the_table() {
    let error = check(&[(LOAD, 1), (B, 3)], at(Some(A), 2), &wishes()).unwrap_err().to_string();
    assert!(error.contains("20240101-000000001, which is merged, is gone"), "{error}");
    assert!(check(&[(A, 2), (B, 3)], at(Some(A), 2), &wishes()).is_err());
    let keep = Wishes { on_vanished: OnVanished::Keep, ..wishes() };
    assert_eq!(check(&[(B, 3)], at(Some(A), 2), &keep).unwrap(), [B]);
    let expired = Wishes { expired_before: stamp(&file(B, 0)), ..wishes() };
    assert_eq!(check(&[(B, 3)], at(Some(A), 2), &expired).unwrap(), [B]);
}

#[test]
fn a_load_file_that_was_mended_makes_no_merged_change_older_than_it() {
    let written = stamp(&file(A, 0)).unwrap().as_unix_millis();
    let files = [(LOAD, written + 5000), (A, written + 200), (B, written + 100)];
    let include = Wishes { include_late: true, ..wishes() };
    let load = loaded(written + 5000);
    let reached = Reached { position: at(Some(B), written + 100), load: &load };
    let step = next(&listing(&files), Some(&reached), &include).unwrap();
    let merged: Vec<_> = step.merges().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(merged, [A, B]);
}

#[test]
fn changes_that_a_load_left_out_are_not_late_whenever_they_are_copied() {
    let files = [(LOAD, 1), (A, 9), (B, 3)];
    let position = Position { older: stamp(&file(A, 0)), ..at(Some(B), 3) };
    assert!(check(&files, position, &wishes()).unwrap().is_empty());
    let include = Wishes { include_late: true, ..wishes() };
    assert!(check(&files, position, &include).unwrap().is_empty());
}

#[test]
fn changes_that_are_older_than_the_load_are_left_out_where_times_tell() {
    let written = stamp(&file(A, 0)).unwrap().as_unix_millis();
    let after = |files: &[(&str, i64)]| match next(&listing(files), None, &wishes()).unwrap() {
        Next::Load { after, .. } => after.map(|stamp| stamp.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(after(&[(LOAD, written + 5000), (A, written + 100)]).as_deref(), Some("20240101-000000001"));
    assert_eq!(after(&[(LOAD, written - 5000), (A, written + 100)]), None);
    let since_a = Wishes { changes_from: stamp(&file(A, 0)), ..wishes() };
    let left = next(&listing(&[(LOAD, written + 5000), (A, written + 100)]), None, &since_a).unwrap();
    let before_a = stamp(&file(A, 0)).map(|stamp| stamp.just_before());
    assert!(matches!(&left, Next::Load { after, .. } if *after == before_a), "{left:?}");
    // a copy, made years later, of the changes first
    let copied = written + 1_000_000_000;
    assert_eq!(after(&[(LOAD, copied + 1), (A, copied)]), None);
}

#[test]
fn a_full_last_file_means_that_the_load_goes_on() {
    let more = Wishes { max_file_size: 10, ..wishes() };
    let step = next(&listing(&[(LOAD, 1)]), None, &more).unwrap();
    assert!(matches!(step, Next::Load { complete: false, .. }), "{step:?}");
    let two = [(LOAD, 1), ("LOAD00000002.csv", 2)];
    let loading = Position { load_complete: false, ..at(None, 1) };
    assert_eq!(check(&two, loading, &more).unwrap(), ["LOAD00000002.csv"]);
    assert!(check(&two, at(None, 1), &more).is_err());
}

/// The step for a table whose merged files are gone, where that means a TRUNCATE.
fn truncated(files: &[(&str, i64)], max_file_size: u64) -> Result<Next> {
    let load = loaded(1);
    let wishes = Wishes { on_vanished: OnVanished::Truncate, max_file_size, ..wishes() };
    next(&listing(files), Some(&Reached { position: at(Some(A), 2), load: &load }), &wishes)
}

#[test]
fn a_truncate_empties_the_table_and_takes_what_is_listed() {
    match truncated(&[(B, 3)], 100).unwrap() {
        Next::Empty { files, upto, gone } => {
            assert_eq!((files.len(), upto), (1, stamp(&file(B, 0))));
            assert_eq!(gone, "change file 20240101-000000001");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(truncated(&[], 100).unwrap(), Next::Empty { upto: None, .. }));
    assert!(matches!(truncated(&[(LOAD, 5), (B, 6)], 100).unwrap(), Next::Load { gone: Some(_), complete: true, .. }));
    // the load is still being written
    assert_eq!(truncated(&[(LOAD, 5)], 10).unwrap_err().kind, crate::error::Kind::Transient);
    // no changes were merged, and another load has begun
    let (load, position) = (loaded(1), at(None, 1));
    let wishes = Wishes { on_vanished: OnVanished::Truncate, ..wishes() };
    let other = next(&listing(&[("LOAD00000002.csv", 5)]), Some(&Reached { position, load: &load }), &wishes);
    assert!(matches!(other.unwrap(), Next::Load { gone: Some(_), .. }));
    // nothing is gone
    assert!(matches!(truncated(&[(LOAD, 1), (A, 2), (B, 3)], 100).unwrap(), Next::Changes { .. }));
}

#[test]
fn where_a_merged_file_is_left_the_source_was_not_truncated() {
    for (left, gone) in [((LOAD, 1), "20240101-000000001"), ((A, 2), LOAD)] {
        let error = truncated(&[left, (B, 3)], 100).unwrap_err().to_string();
        assert!(error.contains(gone) && error.contains(&format!("{} is still there", left.0)), "{error}");
    }
}

#[test]
fn an_emptied_table_waits_for_a_load_or_for_changes() {
    let position = Position { load_complete: false, ..at(None, 0) };
    let step =
        |files: &[(&str, i64)]| next(&listing(files), Some(&Reached { position, load: &[] }), &wishes()).unwrap();
    assert_eq!(step(&[]), Next::Nothing);
    assert!(matches!(step(&[(LOAD, 1)]), Next::ContinueLoad { complete: true, .. }));
    assert!(matches!(step(&[(A, 1)]), Next::Changes { .. }));
}

#[test]
fn a_merged_file_that_is_another_one_now_stops_unless_it_is_asked_for() {
    let files = [(LOAD, 1), (A, 2)];
    let mut merged = at(Some(A), 9);
    merged.last = listing(&files).trace_at(merged.changes.unwrap());
    assert!(check(&files, merged, &wishes()).unwrap().is_empty());
    let other = [(LOAD, 1), (A, 3)];
    let error = check(&other, merged, &wishes()).unwrap_err().to_string();
    assert!(error.contains(A) && error.contains("another file") && error.contains("--include-late"), "{error}");
    let include = Wishes { include_late: true, ..wishes() };
    assert_eq!(check(&other, merged, &include).unwrap(), [A]);
    // a table of a version that did not note it
    assert!(check(&other, at(Some(A), 9), &wishes()).unwrap().is_empty());
}

#[test]
fn a_copy_on_a_local_path_is_the_file_that_was_merged() {
    let mut merged = listing(&[(A, 2)]);
    merged.times_mean_nothing = true;
    let (file, trace) = (merged.changes[0].clone(), merged.trace(&merged.changes[0]));
    assert_eq!(merged.trace(&RawFile { modified: 7, tag: "7".into(), ..file.clone() }), trace);
    assert_ne!(merged.trace(&RawFile { size: 11, ..file }), trace);
}

/// The load of a table in segments, of a size each.
fn segments(sizes: &[(&str, u64)]) -> Listing {
    let segment = |(name, size): &(&str, u64)| RawFile { size: *size, ..file(name, 1) };
    Listing { loads: sizes.iter().map(segment).collect(), ..Listing::default() }
}

const S1: &str = "SEGMENT1_LOAD00000001.csv";
const S2: &str = "SEGMENT2_LOAD00000001.csv";

#[test]
fn a_parallel_load_is_complete_when_each_segment_is() {
    let complete = |sizes: &[(&str, u64)]| match next(&segments(sizes), None, &wishes()).unwrap() {
        Next::Load { complete, .. } => complete,
        other => panic!("{other:?}"),
    };
    assert!(complete(&[(S1, 10), (S2, 10)]));
    assert!(!complete(&[(S1, 100), (S2, 10)]));
    assert!(complete(&[(S1, 100), ("SEGMENT1_LOAD00000002.csv", 10), (S2, 10)]));
}

#[test]
fn a_segment_may_begin_when_another_is_complete() {
    let load = [LoadedFile { name: S1.into(), size: 10, tag: "1".into(), hash: String::new() }];
    let both = segments(&[(S1, 10), (S2, 10)]);
    let step = |position| next(&both, Some(&Reached { position, load: &load }), &wishes());
    assert!(matches!(step(at(None, 1)).unwrap(), Next::ContinueLoad { .. }));
    assert!(step(Position { changes: stamp(&file(A, 0)), ..at(None, 1) }).is_err());
}

#[test]
fn changes_that_an_earlier_load_left_behind_do_not_complete_one() {
    let written = stamp(&file(A, 0)).unwrap().as_unix_millis();
    let (left_behind, full) =
        (listing(&[(LOAD, written + 5000), (A, written + 100)]), Wishes { max_file_size: 10, ..wishes() });
    assert!(matches!(next(&left_behind, None, &full).unwrap(), Next::Load { complete: false, after: Some(_), .. }));
    let load = loaded(written + 5000);
    let reached = Reached { position: at(None, 1), load: &load };
    assert!(next(&left_behind, Some(&reached), &Wishes { reload: true, ..full.clone() }).is_err());
    // and it goes on
    let position = super::loaded(&left_behind, stamp(&file(A, 0)), false);
    let more = listing(&[(LOAD, written + 5000), ("LOAD00000002.csv", written + 6000), (A, written + 100)]);
    let step = next(&more, Some(&Reached { position, load: &load }), &full).unwrap();
    assert!(matches!(step, Next::ContinueLoad { .. }), "{step:?}");
}

#[test]
fn a_packed_file_may_be_one_of_a_load_that_goes_on() {
    let names = ["LOAD00000001.csv.gz", "LOAD00000002.csv.gz"];
    let load = [LoadedFile { name: names[0].into(), size: 10, tag: "1".into(), hash: String::new() }];
    let both = listing(&[(names[0], 1), (names[1], 2)]);
    let step = next(&both, Some(&Reached { position: at(None, 1), load: &load }), &wishes()).unwrap();
    assert!(matches!(step, Next::ContinueLoad { .. }), "{step:?}");
}

#[test]
fn changes_of_other_tables_do_not_complete_a_load() {
    let mut both = listing(&[(LOAD, 1), (A, 2)]);
    both.of_all_tables = true;
    let full = Wishes { max_file_size: 10, ..wishes() };
    assert!(matches!(next(&both, None, &full).unwrap(), Next::Load { complete: false, .. }));
    let (load, position) = (loaded(1), Position { load_complete: false, ..at(None, 1) });
    let step = |wishes: &Wishes| next(&both, Some(&Reached { position, load: &load }), wishes).unwrap();
    assert_eq!(step(&full), Next::Nothing);
    assert!(matches!(step(&Wishes { load_complete: true, ..full }), Next::Changes { .. }));
}

#[test]
fn a_file_without_a_place_in_the_order_stops_the_table_while_it_is_not_merged() {
    let mut files = listing(&[(LOAD, 1), (A, 2)]);
    files.undated = vec![Undated { file: file(B, 3), first: stamp(&file(A, 3)).unwrap() }];
    let load = loaded(1);
    let step = |position| next(&files, Some(&Reached { position, load: &load }), &wishes());
    let error = step(at(None, 1)).unwrap_err().to_string();
    assert!(error.contains(B) && error.contains("twice") && error.contains("--reload"), "{error}");
    assert!(next(&files, None, &wishes()).is_err());
    files.changes.push(file("20240101-000000003.csv", 3));
    let step = |position| next(&files, Some(&Reached { position, load: &load }), &wishes());
    assert_eq!(step(at(Some("20240101-000000003.csv"), 4)).unwrap(), Next::Nothing);
}

#[test]
fn a_listing_begins_the_late_window_before_the_position() {
    let from = |wishes: &Wishes, load: &[LoadedFile]| {
        wishes
            .from(Some(&Reached { position: at(Some("20240102-000000000.csv"), 1), load }))
            .map(|stamp| stamp.to_string())
    };
    let day = Wishes { late_window: 86_400, ..wishes() };
    assert_eq!(from(&day, &loaded(1)).as_deref(), Some("20240101-000000000"));
    assert_eq!(from(&Wishes { include_late: true, ..day.clone() }, &loaded(1)), None);
    assert_eq!(from(&Wishes { reload: true, ..day.clone() }, &loaded(1)), None);
    let partition = LoadedFile { name: "2023q1/LOAD00000001.csv".into(), ..loaded(1)[0].clone() };
    assert_eq!(from(&day, &[partition]), None);
    assert_eq!(day.from(None), None);
}

#[test]
fn a_short_window_leaves_the_day_listed() {
    let wishes = Wishes { late_window: 1, ..wishes() };
    let position = Position { day: 1, ..at(Some(B), 3) };
    let reached = Reached { position, load: &[] };
    assert_eq!(wishes.from(Some(&reached)), position.changes.unwrap().before(DAY));
    let old = "20231231-120000000.csv";
    // its time tells that it is late, and it is too old to be looked for
    assert!(check(&[(LOAD, 1), (old, 9), (B, 3)], position, &wishes).unwrap().is_empty());
    // nothing tells but that it was not there
    let error = check(&[(LOAD, 1), (old, 2), (B, 3)], position, &wishes).unwrap_err().to_string();
    assert!(error.contains("were not there"), "{error}");
}

#[test]
fn a_load_without_changes_is_as_old_as_its_newest_file() {
    let vanished = |expired_before: &str| {
        let wishes = Wishes { expired_before: stamp(&file(expired_before, 0)), ..wishes() };
        let written = stamp(&file(A, 0)).unwrap().as_unix_millis();
        next(&listing(&[(B, 9)]), Some(&Reached { position: at(None, written), load: &loaded(1) }), &wishes)
    };
    assert!(vanished("20230101-000000000.csv").unwrap_err().to_string().contains("is gone"));
    assert!(!format!("{:?}", vanished("20250101-000000000.csv")).contains("is gone"));
}

#[test]
fn a_file_that_came_late_is_found_after_others_were_merged() {
    const C: &str = "20240101-000000003.csv";
    let include = Wishes { include_late: true, ..wishes() };
    let files = [(LOAD, 1), (A, 9), (B, 3), (C, 10)];
    let passed = passed(at(Some(B), 3), stamp(&file(C, 0)), &listing(&files), false);
    assert_eq!((passed.listed, passed.swept), (10, 3));
    assert!(check(&files, passed, &wishes()).unwrap().is_empty());
    assert_eq!(check(&files, passed, &include).unwrap(), [A, B, C]);
    // of what may be gone by now nothing is asked that is not known to be late
    let expires = Wishes { expired_before: stamp(&file(C, 0)), ..include.clone() };
    assert_eq!(check(&files, passed, &expires).unwrap(), [C]);
    let swept = super::passed(passed, stamp(&file(C, 0)), &listing(&files), true);
    assert!(check(&files, swept, &include).unwrap().is_empty());
    // what was written in its time did not come late
    let stamp_of_a = stamp(&file(A, 0)).unwrap().as_unix_millis();
    let files = [(LOAD, 1), (A, stamp_of_a), (B, stamp_of_a), (C, stamp_of_a)];
    assert!(check(&files, Position { listed: i64::MAX, last: 0, ..passed }, &include).unwrap().is_empty());
}

#[test]
fn what_is_older_than_the_load_stays_so() {
    let from = stamp(&file(B, 0)).unwrap();
    let wishes = Wishes { changes_from: Some(from), ..wishes() };
    let after = match next(&listing(&[(LOAD, 1), (B, 3)]), None, &wishes).unwrap() {
        Next::Load { after, .. } => after,
        other => panic!("{other:?}"),
    };
    let position = super::loaded(&listing(&[(LOAD, 1), (B, 3)]), after, true);
    assert_eq!((position.changes, position.merged()), (None, None));
    assert_eq!(check(&[(LOAD, 1), (A, 9), (B, 3)], position, &Wishes::default()).unwrap(), [B]);
    // left out, it is none that was merged
    let left_out = super::loaded(&listing(&[(LOAD, 1), (A, 1)]), after, true);
    assert_eq!((left_out.changes, left_out.merged()), (stamp(&file(A, 0)), None));
    assert_eq!(check(&[(LOAD, 1), (B, 3)], left_out, &wishes).unwrap(), [B]);
}
