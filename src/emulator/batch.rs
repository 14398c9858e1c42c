//! `BatchWriteItem` in two parts: what is applied now, and what comes back unprocessed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

type Requests<'a> = BTreeMap<String, Vec<&'a RawValue>>;

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<'a> {
    #[serde(borrow)]
    request_items: Requests<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    return_consumed_capacity: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    return_item_collection_metrics: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    #[serde(borrow, default)]
    unprocessed_items: Requests<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    consumed_capacity: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    item_collection_metrics: Option<&'a RawValue>,
}

/// A request in two parts.
#[derive(Debug)]
pub(super) enum Division {
    /// Nothing is held back.
    All,
    /// Nothing is applied; the service refuses the whole request then.
    Nothing,
    /// `applied` is a request of its own; `returned` is a JSON object of requests by table.
    Parts { applied: Bytes, returned: Bytes },
}

/// Divides a request. `apply` is asked once for each item, tables in alphabetical order.
/// A body that is not a batch is left whole, for the real server to judge.
pub(super) fn divide(body: &[u8], mut apply: impl FnMut(&str) -> bool) -> Division {
    let Ok(batch) = serde_json::from_slice::<Batch<'_>>(body) else {
        return Division::All;
    };
    let (mut applied, mut returned) = (Requests::new(), Requests::new());
    for (table, requests) in &batch.request_items {
        for request in requests {
            let part = if apply(table) { &mut applied } else { &mut returned };
            part.entry(table.clone()).or_default().push(request);
        }
    }
    if returned.is_empty() {
        return Division::All;
    }
    if applied.is_empty() {
        return Division::Nothing;
    }
    let returned = serde_json::to_vec(&returned).expect("a map of JSON texts is JSON");
    let applied = Batch { request_items: applied, ..batch };
    let applied = serde_json::to_vec(&applied).expect("a map of JSON texts is JSON");
    Division::Parts { applied: applied.into(), returned: returned.into() }
}

/// Adds the part held back to the answer of the part applied.
pub(super) fn merge(answer: &Bytes, returned: &Bytes) -> Bytes {
    let parsed =
        (serde_json::from_slice::<Answer<'_>>(answer), serde_json::from_slice::<Requests<'_>>(returned));
    let (Ok(mut merged), Ok(returned)) = parsed else {
        return answer.clone();
    };
    for (table, requests) in returned {
        merged.unprocessed_items.entry(table).or_default().extend(requests);
    }
    serde_json::to_vec(&merged).expect("a map of JSON texts is JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn request(counts: &[usize]) -> Bytes {
        let mut tables = serde_json::Map::new();
        for (table, count) in counts.iter().enumerate() {
            let puts: Vec<Value> = (0..*count)
                .map(|item| json!({"PutRequest": {"Item": {"pk": {"N": item.to_string()}}}}))
                .collect();
            tables.insert(format!("t{table}"), puts.into());
        }
        json!({ "RequestItems": tables, "ReturnConsumedCapacity": "TOTAL" }).to_string().into()
    }

    fn pairs(requests: &Value) -> Vec<String> {
        let tables = requests.as_object().expect("tables");
        let items = tables.iter().flat_map(|(table, items)| {
            items.as_array().expect("items").iter().map(move |item| format!("{table}{item}"))
        });
        items.collect()
    }

    proptest! {
        #[test]
        fn each_item_is_in_one_part(counts in prop::collection::vec(1_usize..9, 1..4), seed: u64) {
            let body = request(&counts);
            let mut rng = fastrand::Rng::with_seed(seed);
            let whole: Value = serde_json::from_slice(&body).expect("JSON");
            let mut expected = pairs(&whole["RequestItems"]);
            if let Division::Parts { applied, returned } = divide(&body, |_| rng.bool()) {
                let applied: Value = serde_json::from_slice(&applied).expect("JSON");
                prop_assert_eq!(&applied["ReturnConsumedCapacity"], "TOTAL");
                let answer = merge(&Bytes::from_static(b"{\"UnprocessedItems\":{}}"), &returned);
                let answer: Value = serde_json::from_slice(&answer).expect("JSON");
                let mut parts = pairs(&applied["RequestItems"]);
                parts.extend(pairs(&answer["UnprocessedItems"]));
                parts.sort();
                expected.sort();
                prop_assert_eq!(parts, expected);
            }
        }
    }

    #[test]
    fn all_or_nothing_is_said_so() {
        let body = request(&[2, 1]);
        assert!(matches!(divide(&body, |_| true), Division::All));
        assert!(matches!(divide(&body, |_| false), Division::Nothing));
        assert!(matches!(divide(b"not a batch", |_| false), Division::All));
    }
}
