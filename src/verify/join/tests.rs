//! The join against a plain map, with so little memory that it spills and splits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn key(number: u64) -> Key {
    let text = Bytes::from(format!(r#"{{"pk":{{"S":"customer#{number:x}"}}}}"#));
    Key::from_json(&text, 0..text.len()).expect("a key")
}

/// The digest of an item that is told by a number.
fn item(number: impl Into<u128>) -> Digest {
    Digest::of(&number.into().to_be_bytes())
}

fn config(dir: &tempfile::TempDir, memory_bytes: usize) -> Config {
    Config { memory_bytes, disk_bytes: 1 << 30, dir: dir.path().to_owned(), key_bytes_max: 64 }
}

fn suspects(join: Join) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for suspect in join.suspects() {
        let text = match suspect.expect("the disk works") {
            Identity::Key(key) => key.to_string(),
            Identity::Digest(digest) => format!("{digest:?}"),
        };
        assert!(found.insert(text.clone()), "{text} came twice");
    }
    found
}

/// Every key whose items differ.
fn expected(source: &BTreeMap<u64, u128>, replica: &BTreeMap<u64, u128>) -> BTreeSet<String> {
    let keys: BTreeSet<_> = source.keys().chain(replica.keys()).collect();
    let differ = keys.into_iter().filter(|key| source.get(key) != replica.get(key));
    differ.map(|number| key(*number).to_string()).collect()
}

#[test]
fn a_large_part_is_split_and_equal_parts_are_never_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    // Merges 2 kB at once, which a bucket of several hundred records is far from.
    let mut join = Join::new(&config(&dir, 4 << 10)).expect("a file");
    let (mut source, mut replica) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..60_000 {
        source.insert(number, 1);
        replica.insert(number, 1 + u128::from(number % 1_000 == 7));
    }
    source.remove(&5);
    replica.remove(&59_999);
    for (number, state) in &source {
        join.add(Side::Source, &key(*number), item(*state)).expect("room");
    }
    for (number, state) in replica.iter().rev() {
        join.add(Side::Replica, &key(*number), item(*state)).expect("room");
    }
    assert!(join.disk_bytes() > 0, "nothing was spilled");
    let found = suspects(join);
    assert_eq!(found.len(), 62);
    assert_eq!(found, expected(&source, &replica));
}

#[test]
fn equal_tables_take_no_second_look() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut join = Join::new(&config(&dir, 4 << 10)).expect("a file");
    for number in 0..20_000 {
        join.add(Side::Source, &key(number), item(number)).expect("room");
        join.add(Side::Replica, &key(19_999 - number), item(19_999 - number)).expect("room");
    }
    assert!(join.signature(Side::Source).differing(&join.signature(Side::Replica)).is_empty());
    let mut suspects = join.suspects();
    while suspects.open().expect("the disk works") {
        assert!(suspects.found.is_empty());
    }
    assert!(suspects.parts.is_empty());
}

#[test]
fn a_disk_that_may_hold_less_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut join = Join::new(&Config { disk_bytes: 64 << 10, ..config(&dir, 4 << 10) }).expect("a file");
    let error = (0..100_000).find_map(|number| join.add(Side::Source, &key(number), item(1u64)).err());
    let error = error.expect("64 kB hold no 100,000 records");
    assert!(matches!(error, Error::Full { limit_bytes: 65_536, .. }), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0, "something is left");
}

#[test]
fn one_key_many_times_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut join = Join::new(&config(&dir, 4 << 10)).expect("a file");
    for number in 0..5_000u64 {
        join.add(Side::Source, &key(1), item(number)).expect("room");
    }
    assert_eq!(suspects(join), BTreeSet::from([key(1).to_string()]));
}

/// What ten million items take, of which a tenth of a per cent differs:
/// `DYNAMIRROR_ITEMS=10000000 cargo test --release verify::join::tests::many -- --ignored --nocapture`
#[test]
#[ignore = "takes memory and time to measure"]
fn many() {
    let items: u64 = std::env::var("DYNAMIRROR_ITEMS").map_or(1_000_000, |it| it.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory");
    let mut join = Join::new(&config(&dir, 64 << 20)).expect("a file");
    let began = tokio::time::Instant::now();
    for number in 0..items {
        join.add(Side::Source, &key(number), item(number)).expect("room");
        let state = number + u64::from(number % 1_000 == 7);
        join.add(Side::Replica, &key(number), item(state)).expect("room");
    }
    let (added, disk_bytes) = (began.elapsed(), join.disk_bytes());
    let found: Result<Vec<_>, _> = join.suspects().collect();
    assert_eq!(found.expect("the disk works").len() as u64, (items + 992) / 1_000);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown");
    println!(
        "{items} items a side: taken in {added:?}, joined in {:?}, {disk_bytes} bytes on disk, {peak}",
        began.elapsed()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_finds_what_a_map_finds(
        source in prop::collection::btree_map(0u64..400, 0u128..3, 0..300),
        replica in prop::collection::btree_map(0u64..400, 0u128..3, 0..300),
        memory_bytes in 0usize..20_000,
        key_bytes_max in prop_oneof![Just(0usize), Just(64)],
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config { key_bytes_max, ..config(&dir, memory_bytes) };
        let mut join = Join::new(&config).expect("a file");
        let (mut left, mut right) = (source.iter(), replica.iter().rev());
        loop {
            let (left, right) = (left.next(), right.next());
            if let Some((number, state)) = left {
                join.add(Side::Source, &key(*number), item(*state)).expect("room");
            }
            if let Some((number, state)) = right {
                join.add(Side::Replica, &key(*number), item(*state)).expect("room");
            }
            if left.is_none() && right.is_none() {
                break;
            }
        }
        let expected = expected(&source, &replica);
        if key_bytes_max == 0 {
            prop_assert_eq!(suspects(join).len(), expected.len());
        } else {
            prop_assert_eq!(suspects(join), expected);
        }
    }
}
