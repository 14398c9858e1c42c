//! A shard that fails in every way that loses nothing, read by a reader: each record comes out once.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::dynamo::{Describe, Error, Future, Listing, StreamArn};
use crate::shard::SequenceNumber;

/// What happens to one call.
#[derive(Debug, Clone, Copy)]
enum Luck {
    /// So many records, if there are so many.
    Records(usize),
    Fault(Fault),
    /// The records up to here are trimmed from now on, read or not: so many of them.
    Trim(usize),
}

/// A closed shard with records `1..=last`; an iterator's token is the number of the record before it.
struct Model {
    last: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    luck: Vec<Luck>,
    /// Records up to here are gone.
    trimmed: usize,
    /// Records up to here were given out.
    read: usize,
}

impl Model {
    /// Answers by the next piece of luck, and well when there is none left.
    fn next(&self, operation: &'static str) -> Result<usize, Error> {
        let mut state = self.state.lock().expect("no test panics while it holds this");
        match state.luck.pop() {
            Some(Luck::Records(count)) => Ok(count),
            Some(Luck::Fault(fault)) => Err(Error::new(operation, fault, "bad luck")),
            Some(Luck::Trim(count)) => {
                // Never what was not read: that would be a gap.
                state.trimmed = state.read.min(state.trimmed + count);
                Ok(1)
            }
            None => Ok(5),
        }
    }

    fn trimmed(&self) -> usize {
        self.state.lock().expect("no test panics while it holds this").trimmed
    }

    fn iterator_at(&self, position: &Position) -> Result<Iterator, Error> {
        self.next("GetShardIterator")?;
        let before = match position {
            Position::TrimHorizon => self.trimmed(),
            Position::After(number) => number.as_str().parse().expect("numbers of this shard"),
            other => panic!("nobody starts at {other:?} here"),
        };
        // The record that is named must still be there.
        if before > 0 && *position != Position::TrimHorizon && before <= self.trimmed() {
            return Err(Error::new("GetShardIterator", Fault::Trimmed, "too old"));
        }
        Ok(Iterator(before.to_string()))
    }

    fn page_at(&self, iterator: &Iterator) -> Result<dynamo::Page, Error> {
        let count = self.next("GetRecords")?;
        let before: usize = iterator.0.parse().expect("a token of this shard");
        if before < self.trimmed() {
            return Err(Error::new("GetRecords", Fault::Trimmed, "too old"));
        }
        let through = self.last.min(before + count);
        let mut state = self.state.lock().expect("no test panics while it holds this");
        state.read = state.read.max(through);
        Ok(dynamo::Page {
            records: (before + 1..=through).map(|number| record(number as u64, START)).collect(),
            bytes: (through - before) * RECORD_BYTES,
            next: (through < self.last).then(|| Iterator(through.to_string())),
        })
    }
}

impl Streams for Model {
    fn describe<'a>(&'a self, _: &'a StreamArn, _: &'a Describe) -> Future<'a, Listing> {
        unimplemented!("no reader asks for it")
    }

    fn iterator<'a>(
        &'a self,
        _: &'a StreamArn,
        _: &'a ShardId,
        position: &'a Position,
    ) -> Future<'a, Iterator> {
        Box::pin(async move { self.iterator_at(position) })
    }

    fn records<'a>(&'a self, iterator: &'a Iterator, _limit: u32) -> Future<'a, dynamo::Page> {
        Box::pin(async move { self.page_at(iterator) })
    }
}

fn any_luck() -> impl Strategy<Value = Luck> {
    let faults = [
        Fault::ExpiredIterator,
        Fault::Transient,
        Fault::Unanswered,
        Fault::Protocol,
        Fault::Throttled(Width::Unknown),
        Fault::Denied,
    ];
    prop_oneof![
        4 => (0usize..6).prop_map(Luck::Records),
        3 => proptest::sample::select(faults.to_vec()).prop_map(Luck::Fault),
        1 => (1usize..10).prop_map(Luck::Trim),
    ]
}

/// Reads the whole shard, keeping every `kept`th page in memory for a second, and returns the numbers that came.
async fn read(model: Arc<Model>, kept: usize) -> Vec<u64> {
    let mut rig = Rig::new(Position::TrimHorizon);
    // From the first record on, and the clock never comes near the retention.
    rig.start.read_through_unix_ms = Some(START);
    let budget = Budget::new(PAGE_RESERVE_BYTES);
    rig.budget = budget.clone();
    let source = rig.source(model);
    let mut reader = rig.run_with(source);
    let mut numbers = Vec::new();
    let mut held = Vec::new();
    let (mut pages, mut late) = (0, 0);
    let mut before = Position::TrimHorizon;
    loop {
        let event = match tokio::time::timeout(Duration::from_secs(1), reader.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(_elapsed) => {
                late += 1;
                assert!(late < 10_000, "the reader never ends");
                held.clear();
                continue;
            }
        };
        let Event::Page(Page { records, position, .. }, reservation) = event else {
            continue;
        };
        assert!(before <= position, "{before:?} then {position:?}");
        before = position;
        let last = records.last().map(|record| Position::After(record.sequence));
        assert!(last.is_none_or(|last| last == position));
        let given = |number: SequenceNumber| number.as_str().parse::<u64>().expect("a number of this shard");
        numbers.extend(records.iter().map(|record| given(record.sequence)));
        pages += 1;
        if pages % kept == 0 {
            held.push(reservation);
        }
    }
    assert_eq!(reader.stop().await, Stop::End);
    drop(held);
    assert_eq!(budget.used_bytes(), 0);
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_record_comes_out_once_and_in_order(
        last in 0usize..60,
        luck in prop::collection::vec(any_luck(), 0..60),
        kept in 1usize..4,
    ) {
        let state = Mutex::new(State { luck, ..State::default() });
        let model = Arc::new(Model { last, state });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without threads");
        let numbers = runtime.block_on(read(model, kept));
        prop_assert_eq!(numbers, (1..=last as u64).collect::<Vec<_>>());
    }
}
