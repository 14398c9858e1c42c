use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

#[derive(Debug, Clone)]
enum Step {
    Append { key: u8 },
    Split,
    Roll,
    RollAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => any::<u8>().prop_map(|key| Step::Append { key }),
        2 => Just(Step::Split),
        1 => Just(Step::Roll),
        1 => Just(Step::RollAll),
    ];
    prop::collection::vec(step, 0..200)
}

fn record(number: u32, key: u8) -> Record {
    Record {
        sequence: Sequence::parse(&format!("{number:021}")).expect("digits"),
        position: ring::position(&[key]),
        created_s: u64::from(number),
        arrived_ms: u64::from(number),
        body: Bytes::from(format!("{key}:{number}")),
    }
}

fn lineage(shards: u32) -> Lineage {
    Lineage::new(shards, Sequence::FLOOR, 1_000, fastrand::Rng::with_seed(7))
}

fn play(lineage: &mut Lineage, steps: &[Step]) -> u32 {
    let mut number = 0;
    for step in steps {
        match step {
            Step::Append { key } => {
                number += 1;
                lineage.append(record(number, *key)).expect("the ring is covered");
            }
            Step::Split => drop(lineage.split(None, 2_000)),
            Step::Roll => drop(lineage.roll(None, 2_000)),
            Step::RollAll => lineage.roll_all(2_000),
        }
    }
    number
}

/// Reads a shard from its horizon until it ends or, when open, until an empty page.
fn read(lineage: &Lineage, id: &str, max_records: usize) -> Vec<Bytes> {
    let mut after = lineage.start(id, Start::TrimHorizon).expect("shard is known");
    let mut all = Vec::new();
    loop {
        let page = lineage.page(id, after, max_records, 1 << 20).expect("nothing is trimmed");
        let empty = page.bodies.is_empty();
        all.extend(page.bodies);
        match page.next_after_exclusive {
            Some(next) if !empty => after = next,
            _ => return all,
        }
    }
}

fn ids(lineage: &Lineage) -> Vec<String> {
    lineage.shards().map(|shard| shard.id.clone()).collect()
}

proptest! {
    #[test]
    fn open_shards_cover_the_ring_once(initial in 1_u32..20, steps in steps()) {
        let mut lineage = lineage(initial);
        play(&mut lineage, &steps);
        let mut next = 0_u64;
        for index in &lineage.open {
            let shard = &lineage.shards[*index];
            prop_assert!(shard.is_open());
            prop_assert_eq!(u64::from(shard.range.first), next);
            next = u64::from(shard.range.last) + 1;
        }
        prop_assert_eq!(next, 1 << 32);
    }

    #[test]
    fn parents_first_gives_every_record_once_and_in_key_order(
        initial in 1_u32..8, max_records in 1_usize..9, steps in steps(),
    ) {
        let mut lineage = lineage(initial);
        let written = play(&mut lineage, &steps);
        let mut latest_of_key = HashMap::new();
        let mut seen = 0;
        for id in ids(&lineage) {
            for body in read(&lineage, &id, max_records) {
                let text = String::from_utf8(body.to_vec()).expect("own text");
                let (key, number) = text.split_once(':').expect("own text");
                let number: u32 = number.parse().expect("own text");
                let before = latest_of_key.insert(key.to_owned(), number);
                prop_assert!(before < Some(number), "key {} went back", key);
                seen += 1;
            }
        }
        prop_assert_eq!(seen, written);
    }

    #[test]
    fn parents_come_before_children_and_ranges_are_nested(initial in 1_u32..8, steps in steps()) {
        let mut lineage = lineage(initial);
        play(&mut lineage, &steps);
        let mut earlier = HashMap::new();
        for shard in lineage.shards() {
            prop_assert!(shard.id.len() >= 28);
            if let Some(parent) = &shard.parent {
                let parent: &Shard = earlier[parent];
                prop_assert!(parent.id < shard.id);
                prop_assert!(parent.range.contains(shard.range.first) && parent.range.contains(shard.range.last));
                prop_assert!(parent.records.iter().all(|record| Some(record.sequence) <= parent.ending));
            }
            prop_assert!(shard.records.iter().all(|record| shard.range.contains(record.position)));
            prop_assert!(shard.ending.is_none_or(|ending| ending >= shard.starting));
            earlier.insert(shard.id.clone(), shard);
        }
    }

    #[test]
    fn pages_of_a_listing_join_to_the_whole(initial in 1_u32..300, limit in 1_usize..120) {
        let mut lineage = lineage(initial);
        let mut start = None;
        let mut listed = Vec::new();
        loop {
            let page = lineage.list(start.as_deref(), limit);
            listed.extend(page.shards.into_iter().map(|shard| shard.id));
            match page.last_evaluated {
                Some(last) => start = Some(last),
                None => break,
            }
        }
        prop_assert_eq!(listed, ids(&lineage));
    }
}

#[test]
fn the_page_that_reaches_the_end_of_a_closed_shard_has_records_and_no_next() {
    let mut lineage = lineage(1);
    lineage.append(record(1, 0)).expect("open");
    lineage.append(record(2, 0)).expect("open");
    let id = ids(&lineage)[0].clone();
    let open = lineage.page(&id, 0, 10, 1 << 20).expect("known");
    assert_eq!((open.bodies.len(), open.next_after_exclusive), (2, Some(2)));
    lineage.roll(Some(&id), 2_000).expect("open");
    let closed = lineage.page(&id, 0, 10, 1 << 20).expect("known");
    assert_eq!((closed.bodies.len(), closed.next_after_exclusive), (2, None));
    let cut = lineage.page(&id, 0, 1, 1 << 20).expect("known");
    assert_eq!((cut.bodies.len(), cut.next_after_exclusive), (1, Some(1)));
}

#[test]
fn a_page_keeps_to_its_bytes_but_never_starves() {
    let mut lineage = lineage(1);
    for number in 1..=3 {
        lineage.append(record(number, 0)).expect("open");
    }
    let id = ids(&lineage)[0].clone();
    assert_eq!(lineage.page(&id, 0, 10, 1).expect("known").bodies.len(), 1);
    assert_eq!(lineage.page(&id, 0, 10, 6).expect("known").bodies.len(), 2);
}

#[test]
fn a_gap_starts_at_the_next_record() {
    let mut lineage = lineage(1);
    for number in [10, 20, 30] {
        lineage.append(record(number, 0)).expect("open");
    }
    let id = ids(&lineage)[0].clone();
    let first = |start| {
        let after = lineage.start(&id, start).expect("inside the shard");
        lineage.page(&id, after, 1, 1 << 20).expect("known").bodies
    };
    let number = |text: &str| Sequence::parse(text).expect("digits");
    assert_eq!(first(Start::After(number("15"))), ["0:20"]);
    assert_eq!(first(Start::At(number("15"))), ["0:20"]);
    assert_eq!(first(Start::At(number("20"))), ["0:20"]);
    assert_eq!(first(Start::After(number("20"))), ["0:30"]);
    assert_eq!(first(Start::AtTimestamp(21)), ["0:30"]);
    assert!(first(Start::Latest).is_empty());
    assert_eq!(lineage.start(&id, Start::After(number("31"))), Err(Error::Beyond(id.clone())));
}

#[test]
fn a_record_lands_in_the_shard_that_owns_its_place_to_the_edge() {
    let mut lineage = lineage(4);
    let edges: Vec<_> = lineage.shards().map(|shard| shard.range).collect();
    let mut number = 0;
    for position in edges.iter().flat_map(|range| [range.first, range.last]) {
        number += 1;
        lineage.append(Record { position, ..record(number, 0) }).expect("the ring is covered");
    }
    assert!(lineage.shards().all(|shard| shard.records.len() == 2));
}

#[test]
fn an_empty_shard_can_be_read_from_the_number_it_is_listed_with() {
    let mut lineage = lineage(1);
    lineage.append(record(7, 0)).expect("open");
    lineage.roll(None, 2_000).expect("open");
    let child = lineage.list(None, 100).shards.remove(1);
    let after = lineage.start(&child.id, Start::At(child.starting)).expect("its own number");
    lineage.append(record(8, 0)).expect("open");
    assert_eq!(lineage.page(&child.id, after, 10, 1 << 20).expect("known").bodies, ["0:8"]);
}

#[test]
fn what_was_trimmed_is_refused_and_the_horizon_moves() {
    let mut lineage = lineage(1);
    for number in 1..=3 {
        lineage.append(record(number, 0)).expect("open");
    }
    let id = ids(&lineage)[0].clone();
    lineage.expire(3);
    let number = |text: &str| Sequence::parse(text).expect("digits");
    assert_eq!(lineage.start(&id, Start::At(number("2"))), Err(Error::Trimmed(id.clone())));
    assert_eq!(lineage.start(&id, Start::After(number("1"))), Err(Error::Trimmed(id.clone())));
    assert_eq!(lineage.start(&id, Start::After(number("2"))), Ok(2), "nothing is lost after the horizon");
    assert_eq!(lineage.page(&id, 0, 10, 1 << 20).map(drop), Err(Error::Trimmed(id.clone())));
    assert_eq!(read(&lineage, &id, 10), ["0:3"]);
    lineage.trim();
    assert!(read(&lineage, &id, 10).is_empty());
}

#[test]
fn a_closed_shard_outlives_its_end_by_the_retention_only() {
    let mut lineage = lineage(1);
    lineage.append(record(1, 0)).expect("open");
    let id = lineage.roll(None, 2_000).expect("open");
    lineage.expire(2_000);
    assert!(ids(&lineage).contains(&id));
    lineage.expire(2_001);
    assert!(!ids(&lineage).contains(&id));
    assert_eq!(lineage.start(&id, Start::TrimHorizon), Err(Error::Unknown(id.clone())));
}

#[test]
fn a_forgotten_open_shard_leaves_the_ring_covered() {
    let mut lineage = lineage(4);
    let id = ids(&lineage)[1].clone();
    lineage.forget(&id, 2_000).expect("known");
    for key in 0..=u8::MAX {
        lineage.append(record(u32::from(key) + 1, key)).expect("the ring is covered");
    }
    assert!(lineage.list(None, 100).shards.iter().all(|shard| shard.id != id));
    assert_eq!(lineage.children(&id).shards.len(), 1);
}

#[test]
fn an_inconsistent_listing_settles() {
    let mut lineage = lineage(1);
    lineage.inconsistent = true;
    let parent = lineage.split(None, 2_000).expect("open");
    let fresh = lineage.list(None, 100);
    assert_eq!(fresh.shards[0].ending, None, "the parent still looks open");
    let settled = (0..3).map(|_| lineage.list(None, 100)).last().expect("three listings");
    assert!(settled.shards[0].ending.is_some());
    assert_eq!(settled.shards.len(), 3);
    let children: HashSet<_> = lineage.children(&parent).shards.into_iter().map(|shard| shard.id).collect();
    assert_eq!(children.len(), 2);
}
