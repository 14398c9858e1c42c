//! What the emulator needs to know of a client's request.

use super::arn;
use bytes::Bytes;
use hyper::{HeaderMap, Method};
use serde::{Deserialize, de::IgnoredAny};
use std::{borrow::Cow, collections::BTreeMap};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Names<'a> {
    #[serde(borrow)]
    table_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stream_arn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    shard_iterator: Option<Cow<'a, str>>,
    request_items: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(borrow)]
    transact_items: Option<Vec<BTreeMap<String, Named<'a>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'a> {
    #[serde(borrow)]
    table_name: Option<Cow<'a, str>>,
}

impl Request {
    /// The operation without its service prefix; empty when there is none.
    pub(super) fn operation(&self) -> &str {
        let target = self.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        target.and_then(|target| target.rsplit('.').next()).unwrap_or_default()
    }

    /// The tables it names, sorted, each once for each time a transaction names it; none when it cannot be told.
    pub(super) fn tables(&self) -> Vec<String> {
        let Ok(names) = serde_json::from_slice::<Names<'_>>(&self.body) else {
            return Vec::new();
        };
        let singles = [names.table_name, names.stream_arn, names.shard_iterator];
        let singles = singles.into_iter().flatten().map(Cow::into_owned);
        let batch = names.request_items.unwrap_or_default().into_keys();
        let actions = names.transact_items.unwrap_or_default().into_iter().flat_map(BTreeMap::into_values);
        let actions = actions.filter_map(|action| action.table_name).map(Cow::into_owned);
        let mut tables: Vec<String> =
            singles.chain(batch).chain(actions).map(|name| arn::table_name(&name).to_owned()).collect();
        tables.sort();
        tables
    }
}

/// Whether an operation changes items.
pub(super) fn is_write(operation: &str) -> bool {
    matches!(
        operation,
        "PutItem"
            | "UpdateItem"
            | "DeleteItem"
            | "BatchWriteItem"
            | "TransactWriteItems"
            | "ExecuteStatement"
            | "BatchExecuteStatement"
            | "ExecuteTransaction"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(body: &'static str) -> Vec<String> {
        let (method, headers) = (Method::POST, HeaderMap::new());
        Request { method, path: "/".to_owned(), headers, body: Bytes::from_static(body.as_bytes()) }.tables()
    }

    #[test]
    fn tables_are_found_wherever_a_request_names_them() {
        assert_eq!(tables(r#"{"TableName":"t","Item":{}}"#), ["t"]);
        assert_eq!(tables(r#"{"TableName":"arn:aws:dynamodb:eu-west-1:0:table/t"}"#), ["t"]);
        assert_eq!(tables(r#"{"RequestItems":{"b":[],"a":[{}]}}"#), ["a", "b"]);
        assert_eq!(
            tables(r#"{"TransactItems":[{"Put":{"TableName":"t","Item":{}}},{"Delete":{"TableName":"t"}}]}"#),
            ["t", "t"]
        );
        assert_eq!(tables(r#"{"StreamArn":"arn:aws:dynamodb:x:0:table/s/stream/1"}"#), ["s"]);
        assert_eq!(tables(r#"{"ShardIterator":"arn:aws:dynamodb:x:0:table/s/stream/1|1|abc"}"#), ["s"]);
        assert!(tables("{}").is_empty() && tables("no JSON").is_empty());
    }
}
