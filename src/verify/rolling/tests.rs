//! A rolling verification of two tables in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::capacity::Bucket;
use crate::change::{Change, Op};
use crate::control::Control;
use crate::dynamo::memory::Memory;
use crate::dynamo::{self, Tables};
use crate::item::Item;

const DAY: Duration = Duration::from_secs(86_400);

async fn write(memory: &Memory, table: &str, number: u64, text: Option<&str>) {
    let item = |text: &str| {
        Item::from_json(Bytes::from(format!(r#"{{"pk":{{"S":"{number}"}},"t":{{"S":"{text}"}}}}"#)))
    };
    let key = Key::of_item(item("").as_bytes(), &["pk".to_owned()]).expect("a key");
    let op = text.map_or(Op::Delete, |text| Op::Put(item(text)));
    memory.write(table, &[Change { key, op, created_unix_ms: 0, order: None }]).await.expect("written");
}

struct Seen {
    memory: Arc<Memory>,
    clock: Clock,
    compared: Arc<Mutex<u64>>,
    found: Arc<Mutex<BTreeMap<String, Class>>>,
    covered: Arc<Mutex<Vec<i64>>>,
}

impl Seen {
    async fn new() -> Self {
        let memory = Arc::new(Memory::default());
        memory.describe_as(dynamo::Table { items: 500, ..dynamo::Table::default() });
        for number in 0..500 {
            for table in ["source", "replica"] {
                write(&memory, table, number, Some("same")).await;
            }
        }
        let clock = Clock::Simulated { start_unix_ms: 1_700_000_000_000, start: Instant::now() };
        Self { memory, clock, compared: Arc::default(), found: Arc::default(), covered: Arc::default() }
    }

    fn rolling(&self) -> Rolling {
        let table = |name: &str| Table {
            tables: Arc::clone(&self.memory) as _,
            name: name.to_owned(),
            key: vec!["pk".to_owned()],
            segments: 4,
            pages: 1,
            units: Bucket::new(None),
        };
        let (compared, found, covered) =
            (Arc::clone(&self.compared), Arc::clone(&self.found), Arc::clone(&self.covered));
        Rolling {
            source: table("source"),
            replica: table("replica"),
            digester: Digester::new::<&str>(&[]),
            barrier: Barrier::Grace(Duration::from_secs(1)),
            store: Store::new(Control::new(Arc::clone(&self.memory) as _, "control"), "orders", "us"),
            clock: self.clock,
            every: DAY,
            tell: Box::new(move |told| match told {
                Told::Compared(items) => *compared.lock().expect("no panic") += items,
                Told::Found(difference) => {
                    let key = difference.key.to_string();
                    found.lock().expect("no panic").insert(key, difference.class);
                }
                Told::Covered(at) => covered.lock().expect("no panic").push(at),
            }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_finds_what_is_wrong_and_takes_its_time_whoever_goes_on() {
    let seen = Seen::new().await;
    write(&seen.memory, "replica", 7, None).await;
    write(&seen.memory, "replica", 8, Some("other")).await;
    write(&seen.memory, "replica", 900, Some("extra")).await;
    let began = Instant::now();
    while seen.covered.lock().expect("no panic").is_empty() {
        // A worker is replaced twice an hour.
        tokio::time::timeout(Duration::from_secs(1_800), seen.rolling().run())
            .await
            .expect_err("it never ends");
    }
    let took = began.elapsed();
    assert!(took > DAY * 3 / 4 && took < DAY + Duration::from_secs(3_600), "{took:?}");
    let key = |number: u64| format!(r#"{{"pk":{{"S":"{number}"}}}}"#);
    let expected = [(7, Class::Missing), (8, Class::Different), (900, Class::Extra)];
    let expected = expected.map(|(number, class)| (key(number), class)).into_iter().collect();
    assert_eq!(*seen.found.lock().expect("no panic"), expected);
    let compared = *seen.compared.lock().expect("no panic");
    assert!(
        (1_000..1_600).contains(&compared),
        "{compared} items: more than a page was repeated at each start"
    );
    // The next one begins when its time has come, and not before.
    tokio::time::timeout(Duration::from_secs(60), seen.rolling().run()).await.expect_err("it never ends");
    let before = *seen.compared.lock().expect("no panic");
    tokio::time::timeout(DAY * 3, seen.rolling().run()).await.expect_err("it never ends");
    assert!(*seen.compared.lock().expect("no panic") > before + 1_900);
    let covered = seen.covered.lock().expect("no panic").clone();
    assert!(covered.is_sorted() && covered.last() > covered.first(), "{covered:?}");
}

#[tokio::test]
async fn a_place_is_read_as_it_was_written() {
    let store = Store::new(Control::new(Arc::new(Memory::default()), "control"), "orders", "us");
    assert_eq!(store.load().await.expect("read"), None);
    let first = Place::new(5, [8, 4]);
    let later = Place {
        side: Side::Replica,
        segment: 3,
        segments: 4,
        after: Some(Item::from_json(r#"{"pk":{"S":"\"é"}}"#.into())),
        items: 17,
        covered_unix_ms: Some(9),
        ..first.clone()
    };
    for place in [first, later] {
        store.save(&place).await.expect("written");
        assert_eq!(store.load().await.expect("read"), Some(place));
    }
}

#[test]
fn a_pass_goes_through_all_segments_of_both_sides() {
    let mut place = Place::new(5, [2, 3]);
    let next = Item::from_json("{}".into());
    let mut seen = Vec::new();
    loop {
        seen.push((place.side, place.segment, place.segments));
        assert!(!place.advance(1, Some(&next), 10, [2, 3]));
        if place.advance(1, None, 10, [2, 3]) {
            break;
        }
    }
    let expected = [
        (Side::Source, 0, 2),
        (Side::Source, 1, 2),
        (Side::Replica, 0, 3),
        (Side::Replica, 1, 3),
        (Side::Replica, 2, 3),
    ];
    assert_eq!(seen, expected);
    assert_eq!(place, Place { covered_unix_ms: Some(5), ..Place::new(10, [2, 3]) });
}
