use std::sync::Arc;

use super::*;
use crate::dynamo::memory::Memory;
use crate::fault::Fault;

fn parked(memory: &Arc<Memory>) -> Parked {
    Parked::new(Control::new(Arc::clone(memory) as _, "control"), "orders", "us", Clock::System)
}

fn put(text: String) -> Change {
    let key = Bytes::from_static(br#"{"k":{"S":"a"}}"#);
    let key = Key::from_json(&key, 0..key.len()).expect("a key");
    Change {
        key,
        op: Op::Put(Item::from_json(text.into())),
        created_unix_ms: 17,
        order: Order::from_mark("t/2026#7"),
    }
}

async fn keep(parked: &Parked, change: &Change, earlier: Option<&Entry>) -> Result<Entry, Error> {
    let draft = parked.draft(change, &refusal(), Some(&ShardId::from("shard-1")));
    parked.keep(&draft, earlier).await
}

fn refusal() -> dynamo::Error {
    dynamo::Error::new("BatchWriteItem", Fault::Invalid, "it is too large")
}

#[tokio::test]
async fn the_largest_item_comes_back_byte_for_byte() {
    let memory = Arc::new(Memory::default());
    let parked = parked(&memory);
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric).take(700_000).collect();
    let change = put(format!(r#"{{"k":{{"S":"a"}},"b":{{"S":"{noise}"}}}}"#));
    let entry = keep(&parked, &change, None).await.expect("parked");
    assert!(entry.parts > 1, "it fitted into one row, so this test shows nothing");
    assert_eq!(parked.list().await.expect("listed"), std::slice::from_ref(&entry));
    let Op::Put(item) = parked.change(&entry).await.expect("whole").op else { panic!("expected a put") };
    let Op::Put(expected) = change.op else { unreachable!("it was made as a put") };
    assert_eq!(item, expected);
    assert_eq!(parked.remove(&entry).await.expect("removed"), Removal::Removed);
    assert_eq!(parked.remove(&entry).await.expect("a call"), Removal::Gone);
    assert!(parked.list().await.expect("listed").is_empty());
    assert!(parked.change(&entry).await.is_err(), "its payload is still there");
}

#[tokio::test]
async fn a_newer_change_takes_the_place_of_the_parked_one() {
    let memory = Arc::new(Memory::default());
    let parked = parked(&memory);
    let older = keep(&parked, &put("{\"v\":1}".to_owned()), None).await.expect("parked");
    let newer = put("{\"v\":2}".to_owned());
    let newer = keep(&parked, &newer, Some(&older)).await.expect("parked");
    assert_eq!(parked.list().await.expect("listed"), std::slice::from_ref(&newer));
    let instead = parked.remove(&older).await.expect("a call");
    assert_eq!(
        instead,
        Removal::Replaced(Box::new(newer.clone())),
        "the newer entry was removed by its older version"
    );
    assert!(!parked.ask_retry(&older).await.expect("a call"));
    assert!(parked.ask_retry(&newer).await.expect("a call"));
    assert!(parked.list().await.expect("listed")[0].retry_wanted);
}

#[tokio::test]
async fn an_entry_remembers_where_its_change_came_from() {
    let memory = Arc::new(Memory::default());
    let parked = parked(&memory);
    let change = put("{\"v\":1}".to_owned());
    let entry = keep(&parked, &change, None).await.expect("parked");
    let listed = parked.list().await.expect("listed").remove(0);
    assert_eq!(listed.shard, Some(ShardId::from("shard-1")));
    assert_eq!(parked.change(&listed).await.expect("whole").order, change.order);
    assert_eq!(listed, entry);
    let seen = change.order.clone().map(|order| Order { seen: true, ..order });
    keep(&parked, &Change { order: seen.clone(), ..change }, Some(&entry)).await.expect("parked");
    let listed = parked.list().await.expect("listed").remove(0);
    assert!(listed.order.is_some() && listed.order == seen, "a repair is taken for a change: {listed:?}");
}

#[tokio::test]
async fn attempts_to_keep_a_draft_leave_one_payload_and_no_orphan() {
    let memory = Arc::new(Memory::default());
    let parked = parked(&memory);
    let draft = parked.draft(&put("{\"v\":1}".to_owned()), &refusal(), None);
    for _ in 0..3 {
        // The payload is written, and its description is not.
        memory.lose_next_answer(Fault::Unanswered);
        parked.keep(&draft, None).await.expect_err("the answer was lost");
        let payload = parked.control.rows(&parked.payload_partition(), "").await.expect("rows");
        assert_eq!(payload.len(), 1, "an attempt left a payload of its own");
        let expires = payload[0].get("expires_at").expect("it would stay though nobody describes it");
        assert_eq!(*expires, Value::integer((draft.entry.parked_unix_ms + UNDESCRIBED_MS) / 1000));
        assert!(parked.list().await.expect("listed").is_empty());
    }
    let entry = parked.keep(&draft, None).await.expect("parked");
    let payload = parked.control.rows(&parked.payload_partition(), "").await.expect("rows");
    assert!(payload.len() == 1 && !payload[0].contains_key("expires_at"), "a described payload expires");
    assert!(parked.change(&entry).await.is_ok());
}
