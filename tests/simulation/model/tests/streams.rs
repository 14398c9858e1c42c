//! Streams over time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::dynamo::{Describe, Iterator, Streams, Tables};
use crate::fault::Fault;
use crate::record::Kind;
use crate::shard::{Position, SequenceNumber};

const HOUR: Duration = Duration::from_hours(1);

impl Bench {
    fn streamed(&self, view: View, shards: usize) -> crate::dynamo::StreamArn {
        self.model.start_stream(self.table, view, shards)
    }

    async fn iterator(&self, shard: ShardRef, position: Position) -> Result<Iterator, Fault> {
        let arn = self.arn().await;
        let id = self.model.shard_id(shard);
        self.handle().iterator(&arn, &id, &position).await.map_err(|error| error.fault)
    }

    async fn arn(&self) -> crate::dynamo::StreamArn {
        Tables::describe(&*self.handle(), "t").await.expect("a table").stream.expect("a stream").arn
    }

    async fn records(&self, iterator: &Iterator) -> Result<Vec<crate::record::Record>, Fault> {
        let page = self.handle().records(iterator, 1000).await;
        page.map(|page| page.records).map_err(|error| error.fault)
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_gain_digits_and_are_never_given_twice() {
    let mut texts_mislead = 0;
    for seed in 0..20 {
        let bench = Bench::plain(seed);
        bench.streamed(View::NewAndOldImages, 4);
        for version in 0..400 {
            bench.put(&format!("k{}", version % 23), version);
            if version % 100 == 99 {
                let open = bench.model.open_shards(bench.table);
                assert!(bench.model.split(open[0]) && bench.model.roll(open[1]));
            }
        }
        let shards = bench.model.shards(bench.table);
        let mut all: Vec<SequenceNumber> = shards.iter().flat_map(|shard| shard.issued.clone()).collect();
        assert_eq!(all.len(), 400);
        for shard in &shards {
            assert!(shard.issued.is_sorted());
            let mut texts: Vec<_> = shard.issued.iter().map(SequenceNumber::as_str).collect();
            texts_mislead += usize::from(!texts.is_sorted());
            texts.sort_unstable_by_key(|text| text.len());
            assert!(texts.iter().all(|text| (21..=40).contains(&text.len())));
            let parent = shards.iter().find(|other| Some(&other.id) == shard.parent.as_ref());
            if let (Some(parent), Some(first)) = (parent, shard.issued.first()) {
                assert!(parent.issued.iter().all(|number| number < first));
            }
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 400);
    }
    assert!(texts_mislead > 40, "only {texts_mislead} shards are out of order as text");
}

#[tokio::test(start_paused = true)]
async fn iterators_end_after_a_quarter_of_an_hour() {
    let bench = Bench::plain(1);
    bench.streamed(View::NewAndOldImages, 1);
    bench.put("a", 1);
    let shard = bench.model.open_shards(bench.table)[0];
    let iterator = bench.iterator(shard, Position::TrimHorizon).await.expect("an iterator");
    pass(Duration::from_secs(14 * 60 + 59)).await;
    assert_eq!(bench.records(&iterator).await.map(|records| records.len()), Ok(1));
    pass(Duration::from_secs(1)).await;
    assert_eq!(bench.records(&iterator).await.map(drop), Err(Fault::ExpiredIterator));
}

#[tokio::test(start_paused = true)]
async fn after_a_day_records_shards_and_streams_are_gone() {
    let bench = Bench::plain(2);
    let arn = bench.streamed(View::NewAndOldImages, 1);
    bench.put("a", 1);
    pass(HOUR).await;
    bench.put("a", 2);
    let root = bench.model.open_shards(bench.table)[0];
    assert!(bench.model.roll(root));
    pass(HOUR * 23).await;
    // The first record is a day old, the second is not, and the shard was closed less than a day ago.
    let first = bench.model.shards(bench.table)[0].issued[0];
    assert_eq!(bench.iterator(root, Position::After(first)).await.map(drop), Err(Fault::Trimmed));
    let iterator = bench.iterator(root, Position::TrimHorizon).await.expect("an iterator");
    assert_eq!(bench.records(&iterator).await.map(|records| records.len()), Ok(1));
    assert_eq!(bench.model.shards(bench.table)[0].trimmed, 1);
    pass(HOUR).await;
    assert_eq!(bench.iterator(root, Position::TrimHorizon).await.map(drop), Err(Fault::Missing));
    let listing = Streams::describe(&*bench.handle(), &arn, &Describe::default()).await.expect("a listing");
    assert_eq!(listing.shards.len(), 1);
    assert!(bench.model.shards(bench.table)[0].gone);
    bench.model.switch_off(bench.table);
    let off = Tables::describe(&*bench.handle(), "t").await.expect("a table").stream.expect("a stream");
    assert!(!off.enabled && off.arn == arn);
    bench.put("b", 1);
    assert!(bench.model.shards(bench.table)[1].issued.is_empty(), "nothing is written to it any more");
    pass(HOUR * 24).await;
    let listed = Streams::describe(&*bench.handle(), &arn, &Describe::default()).await;
    assert_eq!(listed.expect_err("it is gone").fault, Fault::Missing);
    assert!(Tables::describe(&*bench.handle(), "t").await.expect("a table").stream.is_none());
}

#[tokio::test(start_paused = true)]
async fn views_carry_what_they_say() {
    for (view, images) in
        [(View::NewAndOldImages, 1), (View::NewImage, 1), (View::KeysOnly, 0), (View::OldImage, 0)]
    {
        let bench = Bench::plain(3);
        bench.streamed(view, 1);
        bench.put("a", 1);
        assert!(bench.model.put(bench.table, item("a", 1)).is_none(), "it changes nothing");
        assert!(bench.model.expire(bench.table, &key("a")).is_some());
        assert!(bench.model.delete(bench.table, &key("a")).is_none(), "nothing is there");
        let shard = bench.model.open_shards(bench.table)[0];
        let iterator = bench.iterator(shard, Position::TrimHorizon).await.expect("an iterator");
        let records = bench.records(&iterator).await.expect("records");
        let kinds: Vec<_> = records.iter().map(|record| (record.kind, record.by_ttl)).collect();
        assert_eq!(kinds, [(Kind::Insert, false), (Kind::Remove, true)]);
        assert_eq!(records.iter().filter(|record| record.image.is_some()).count(), images);
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_is_described_ten_times_a_second() {
    let bench = Bench::plain(4);
    let arn = bench.streamed(View::NewAndOldImages, 1);
    let nodes = [Node(1), Node(2)].map(|node| bench.model.handle(node, bench.site));
    let mut throttled = 0;
    bench.model.adjust(|settings| settings.latency_ms = 1..=1);
    for call in 0..20 {
        let listed = Streams::describe(&*nodes[call % 2], &arn, &Describe::default()).await;
        throttled += usize::from(listed.is_err_and(|error| matches!(error.fault, Fault::Throttled(_))));
    }
    assert_eq!(throttled, 10);
    pass(Duration::from_secs(1)).await;
    bench.model.set_quirks(bench.site, Quirks { listing_empty_page: 1.0, ..Quirks::plain() });
    let listing = Streams::describe(&*nodes[0], &arn, &Describe::default()).await.expect("time has passed");
    let what = Describe { after: listing.next, children_of: None };
    assert!(what.after.is_some());
    let listing = Streams::describe(&*nodes[0], &arn, &what).await.expect("an empty page");
    assert!(listing.shards.is_empty() && listing.next.is_none());
}

#[tokio::test(start_paused = true)]
async fn listings_lag_in_every_way() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let quirks = Quirks { listing_lag: Duration::from_secs(2), listing_omits: 0.1, ..Quirks::plain() };
        let bench = Bench::new(seed, quirks);
        let arn = bench.streamed(View::NewAndOldImages, 1);
        let root = bench.model.open_shards(bench.table)[0];
        assert!(bench.model.split(root));
        for _ in 0..20 {
            pass(Duration::from_millis(110)).await;
            let handle = bench.handle();
            let listing = Streams::describe(&*handle, &arn, &Describe::default()).await.expect("a listing");
            let children = listing.shards.iter().filter(|shard| shard.parent.is_some()).count();
            let parent = listing.shards.iter().find(|shard| shard.parent.is_none());
            seen.insert((children, parent.map(|shard| shard.closed)));
        }
        bench.model.quiesce();
        let listing =
            Streams::describe(&*bench.handle(), &arn, &Describe::default()).await.expect("a listing");
        assert_eq!(listing.next, None);
        assert!(listing.shards.len() == 3 && listing.shards.iter().filter(|shard| shard.closed).count() == 1);
    }
    for expected in
        [(0, Some(true)), (0, Some(false)), (2, Some(false)), (1, Some(true)), (2, None), (2, Some(true))]
    {
        assert!(seen.contains(&expected), "{expected:?} was never listed: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_stay_in_one_line_of_shards() {
    let bench = Bench::plain(5);
    bench.streamed(View::NewAndOldImages, 8);
    let mut lines: std::collections::BTreeMap<u32, Vec<ShardRef>> = std::collections::BTreeMap::new();
    for version in 0..600 {
        let name = version % 40;
        let (shard, _) = bench.model.put(bench.table, item(&format!("k{name}"), version)).expect("a record");
        let line = lines.entry(name).or_default();
        if line.last() != Some(&shard) {
            line.push(shard);
        }
        if version % 50 == 49 {
            let open = bench.model.open_shards(bench.table);
            assert!(bench.model.split(open[version as usize / 50 % open.len()]));
        }
    }
    let shards = bench.model.shards(bench.table);
    let state = |shard: ShardRef| -> &ShardState {
        shards.iter().find(|state| state.shard == shard).expect("a shard")
    };
    for line in lines.values() {
        for pair in line.windows(2) {
            let mut ancestor = state(pair[1]).parent.clone();
            while ancestor.as_ref().is_some_and(|id| *id != state(pair[0]).id) {
                let parent = shards.iter().find(|state| Some(&state.id) == ancestor.as_ref());
                ancestor = parent.expect("a parent").parent.clone();
            }
            assert!(ancestor.is_some(), "{:?} does not come from {:?}", pair[1], pair[0]);
        }
    }
    let closed = |line: &Vec<ShardRef>| line[..line.len() - 1].iter().all(|shard| state(*shard).closed);
    assert!(lines.values().all(closed));
    let told = bench.model.history(|history| {
        let records = history.of_table(bench.table).map(|write| (write.key.clone(), write.record));
        records.collect::<Vec<_>>()
    });
    assert_eq!(told.len(), 600);
    for (name, line) in &lines {
        let key = key(&format!("k{name}"));
        let of_key = told.iter().filter(|(of, _)| *of == key);
        let mut shards: Vec<_> = of_key.map(|(_, record)| record.expect("a record").0).collect();
        shards.dedup();
        assert_eq!(shards, *line);
    }
    let owners: BTreeSet<_> = lines.values().map(|line| line[0]).collect();
    assert!(owners.len() >= 6, "keys are in {} of 8 shards", owners.len());
}

#[tokio::test(start_paused = true)]
async fn readers_that_are_there_together_are_counted() {
    let bench = Bench::plain(6);
    bench.streamed(View::NewAndOldImages, 1);
    let shard = bench.model.open_shards(bench.table)[0];
    let window = Duration::from_secs(3);
    let most = |model: &Model| model.history(|history| history.most_readers(window)).map(|(most, ..)| most);
    assert_eq!(most(&bench.model), None);
    let first = bench.iterator(shard, Position::TrimHorizon).await.expect("an iterator");
    let second = bench.iterator(shard, Position::TrimHorizon).await.expect("an iterator");
    // One after the other.
    for iterator in [&first, &second] {
        for _ in 0..3 {
            bench.records(iterator).await.expect("a page");
            pass(Duration::from_secs(1)).await;
        }
    }
    assert_eq!(most(&bench.model), Some(1));
    // One that comes back after a long time is one more only from then on.
    pass(Duration::from_secs(10)).await;
    let third = bench.iterator(shard, Position::TrimHorizon).await.expect("an iterator");
    for _ in 0..2 {
        for iterator in [&first, &second, &third] {
            bench.records(iterator).await.expect("a page");
            pass(Duration::from_millis(500)).await;
        }
    }
    let found = bench.model.history(|history| history.most_readers(window)).expect("readers");
    assert_eq!((found.0, found.1), (3, shard));
    assert!(found.2 > Duration::from_secs(16), "{:?}", found.2);
    assert!(bench.model.elapsed() > found.2);
    bench.put("a", 1);
    bench.put("a", 2);
    let fourth = bench.iterator(shard, Position::TrimHorizon).await.expect("an iterator");
    bench.records(&fourth).await.expect("a page");
    let reads: Vec<Read> = bench.model.history(|history| history.reads.clone());
    assert!(reads.len() == 13 && reads.iter().all(|read| read.node == NODE && read.from == 0));
    assert!(reads[..12].iter().all(|read| read.records == 0) && reads[12].records == 2);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_not_a_shards_own_is_refused() {
    let bench = Bench::plain(7);
    bench.streamed(View::NewAndOldImages, 1);
    bench.put("a", 1);
    bench.put("a", 2);
    let shard = bench.model.open_shards(bench.table)[0];
    for number in ["100000000000000000000", "9999999999999999999999999999999999999"] {
        let number = number.parse().expect("a number");
        assert_eq!(bench.iterator(shard, Position::After(number)).await.map(drop), Err(Fault::Invalid));
    }
    let issued = bench.model.shards(bench.table)[0].issued.clone();
    let iterator = bench.iterator(shard, Position::After(issued[0])).await.expect("an iterator");
    let records = bench.records(&iterator).await.expect("records");
    assert_eq!(records.iter().map(|record| record.sequence).collect::<Vec<_>>(), issued[1..]);
}

#[tokio::test(start_paused = true)]
async fn only_a_part_of_it_is_trimmed_when_asked() {
    for refuses_trimmed_at_once in [false, true] {
        let bench = Bench::new(8, Quirks { refuses_trimmed_at_once, ..Quirks::plain() });
        bench.streamed(View::NewAndOldImages, 1);
        (0..5).for_each(|version| bench.put("a", version));
        let shard = bench.model.open_shards(bench.table)[0];
        bench.model.trim(shard, 2);
        let issued = bench.model.shards(bench.table)[0].issued.clone();
        // The last that is trimmed: nothing behind it is lost, and it is refused all the same.
        for (number, trimmed) in [(issued[0], true), (issued[2], true), (issued[3], false)] {
            let read = match bench.iterator(shard, Position::After(number)).await {
                Ok(iterator) => bench.records(&iterator).await.map(|records| records.len()),
                Err(fault) => {
                    assert!(refuses_trimmed_at_once);
                    Err(fault)
                }
            };
            assert_eq!(read, if trimmed { Err(Fault::Trimmed) } else { Ok(1) });
        }
    }
}
