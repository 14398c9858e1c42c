//! Writes to a source table what an application would: puts, updates, deletes, batches and transactions.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, DeleteRequest, Put, PutRequest, TransactWriteItem, Update, WriteRequest,
};
use fastrand::Rng;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::shape::Shape;
use super::value::{self, Item, NAMES};

/// A writer whose changes follow from its seed.
pub(crate) struct Load {
    client: Client,
    table: String,
    shape: Shape,
    keys: usize,
    /// So many of the keys take about half of all changes.
    hot: Option<usize>,
    rng: Rng,
    /// Changes made.
    pub(crate) written: usize,
}

impl Load {
    /// A writer that changes the first `keys` keys of a table.
    pub(crate) fn new(client: Client, table: &str, shape: &Shape, keys: usize, seed: u64) -> Self {
        let rng = Rng::with_seed(seed);
        Self { client, table: table.to_owned(), shape: shape.clone(), keys, hot: None, rng, written: 0 }
    }

    /// The same with `keys` hot keys, which take about half of all changes.
    pub(crate) fn hot(self, keys: usize) -> Self {
        Self { hot: Some(keys), ..self }
    }

    /// Makes at least `changes` changes.
    pub(crate) async fn run(&mut self, changes: usize) {
        let enough = self.written + changes;
        while self.written < enough {
            self.step().await;
        }
    }

    /// Makes changes until it is told to stop, a few hundred a second.
    pub(crate) async fn run_until(mut self, stop: CancellationToken) -> Self {
        while !stop.is_cancelled() {
            self.step().await;
            // One that never pauses leaves no key alone for as long as it takes to look at it.
            sleep(Duration::from_millis(10)).await;
        }
        self
    }

    /// Makes one call.
    pub(crate) async fn step(&mut self) {
        match self.rng.u8(..10) {
            0..4 => self.batch().await,
            4 | 5 => self.put().await,
            6 | 7 => self.update().await,
            8 => self.delete().await,
            _ => self.transact().await,
        }
    }

    /// Puts every key once, each with some attributes, in batches.
    pub(crate) async fn fill(&mut self) {
        let all: Vec<_> = (0..self.keys).collect();
        for chunk in all.chunks(25) {
            let requests = chunk.iter().map(|index| self.put_request(*index)).collect();
            self.send(requests).await;
        }
    }

    fn key(&mut self) -> Item {
        let index = self.index();
        self.shape.key(index)
    }

    fn index(&mut self) -> usize {
        let among = self.among();
        self.rng.usize(..among)
    }

    /// How many of the first keys the next change is drawn from.
    fn among(&mut self) -> usize {
        match self.hot {
            Some(hot) if self.rng.bool() => hot,
            _ => self.keys,
        }
    }

    fn item(&mut self, index: usize) -> Item {
        let mut item = value::attributes(&mut self.rng);
        item.insert("version".to_owned(), AttributeValue::N(self.written.to_string()));
        item.extend(self.shape.key(index));
        item
    }

    fn distinct(&mut self, most: usize) -> Vec<usize> {
        let among = self.among();
        let count = 1 + self.rng.usize(..most.min(among));
        self.rng.choose_multiple(0..among, count)
    }

    fn put_request(&mut self, index: usize) -> WriteRequest {
        let put = PutRequest::builder().set_item(Some(self.item(index))).build().expect("an item");
        WriteRequest::builder().put_request(put).build()
    }

    async fn batch(&mut self) {
        let mut requests = Vec::new();
        for index in self.distinct(25) {
            requests.push(if self.rng.u8(..4) == 0 {
                let key = Some(self.shape.key(index));
                let delete = DeleteRequest::builder().set_key(key).build().expect("a key");
                WriteRequest::builder().delete_request(delete).build()
            } else {
                self.put_request(index)
            });
        }
        self.send(requests).await;
    }

    async fn send(&mut self, requests: Vec<WriteRequest>) {
        self.written += requests.len();
        let mut rest = requests;
        while !rest.is_empty() {
            let batch = self.client.batch_write_item().request_items(&self.table, rest).send().await;
            let batch = batch.unwrap_or_else(|error| panic!("write a batch: {error:?}"));
            rest = batch.unprocessed_items.and_then(|mut left| left.remove(&self.table)).unwrap_or_default();
        }
    }

    async fn put(&mut self) {
        let index = self.index();
        let item = self.item(index);
        self.put_item(item).await;
    }

    /// Puts one item as it is.
    pub(crate) async fn put_item(&mut self, item: Item) {
        self.written += 1;
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.unwrap_or_else(|error| panic!("put an item: {error:?}"));
    }

    /// Deletes one item.
    pub(crate) async fn delete_item(&mut self, key: Item) {
        self.written += 1;
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(key)).send().await;
        delete.unwrap_or_else(|error| panic!("delete an item: {error:?}"));
    }

    async fn delete(&mut self) {
        let key = self.key();
        self.delete_item(key).await;
    }

    async fn update(&mut self) {
        self.written += 1;
        let key = self.key();
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .update_expression(
                "SET #set = :value, #version = :version REMOVE #remove ADD #count :one, #tags :tags",
            )
            .expression_attribute_names("#set", NAMES[self.rng.usize(..4)])
            .expression_attribute_names("#version", "version")
            .expression_attribute_names("#remove", NAMES[4 + self.rng.usize(..4)])
            .expression_attribute_names("#count", "count")
            .expression_attribute_names("#tags", "tags")
            .expression_attribute_values(":value", value::any(&mut self.rng, 2))
            .expression_attribute_values(":version", AttributeValue::N(self.written.to_string()))
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .expression_attribute_values(":tags", AttributeValue::Ss(vec![self.rng.u8(..20).to_string()]));
        update.send().await.unwrap_or_else(|error| panic!("update an item: {error:?}"));
    }

    async fn transact(&mut self) {
        let mut actions = Vec::new();
        for index in self.distinct(6) {
            let action = TransactWriteItem::builder();
            let (table, key) = (self.table.clone(), self.shape.key(index));
            self.written += 1;
            actions.push(match self.rng.u8(..3) {
                0 => {
                    let put = Put::builder().table_name(table).set_item(Some(self.item(index)));
                    action.put(put.build().expect("a put")).build()
                }
                1 => {
                    let delete = Delete::builder().table_name(table).set_key(Some(key));
                    action.delete(delete.build().expect("a delete")).build()
                }
                _ => {
                    let update = Update::builder()
                        .table_name(table)
                        .set_key(Some(key))
                        .update_expression("SET #version = :version")
                        .expression_attribute_names("#version", "version")
                        .expression_attribute_values(":version", AttributeValue::N(self.written.to_string()));
                    action.update(update.build().expect("an update")).build()
                }
            });
        }
        let transaction = self.client.transact_write_items().set_transact_items(Some(actions)).send().await;
        transaction.unwrap_or_else(|error| panic!("write a transaction: {error:?}"));
    }
}
