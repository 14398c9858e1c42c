//! The services as one node sees them, and the life of a call.

use std::future;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::fate::{self, Answer};
use super::rule::{Call, Operation};
use super::world::{Author, Landing, World};
use super::{Model, Node, Site};
use crate::change::{Change, Op};
use crate::dynamo::{
    Condition, Describe, Error, Fetched, Future, Guard, Guarded, Iterator, Listing, Outcome, Page, RowKey,
    Rows, Scan, Scanned, StreamArn, Streams, Table, Tables, Written,
};
use crate::fault::Fault;
use crate::item::{Attributes, Item};
use crate::key::Key;
use crate::shard::{Position, ShardId};

/// One node's way to one site.
pub(crate) struct Handle {
    model: Model,
    node: Node,
    site: Site,
}

impl Handle {
    pub(super) fn new(model: Model, node: Node, site: Site) -> Self {
        Self { model, node, site }
    }

    fn call<'a, T: Send + 'static>(
        &'a self,
        operation: Operation,
        table: &'a str,
        effect: impl FnOnce(&mut World, &Landing) -> Result<T, Error> + Send + 'static,
    ) -> Future<'a, T> {
        let call = Call { operation, node: self.node, site: self.site, table };
        Box::pin(async move {
            let sent = Instant::now();
            let (fate, patience) = {
                let mut world = self.model.world();
                (world.fate(&call), world.patience(&call))
            };
            let author = Author { node: Some(self.node), sent };
            let landing =
                Landing { operation, node: self.node, site: self.site, author, verdict: fate.verdict };
            let back = match fate.answer {
                Answer::Comes(back) => Some(back),
                Answer::Breaks(..) => None,
            };
            let result = match (fate.lands_after, back) {
                (Some(Duration::ZERO), _) => self.at_once(landing, back, effect).await,
                (Some(lands_after), _) => self.under_way(landing, lands_after, back, effect).await,
                (None, _) => None,
            };
            if let Some(result) = result {
                return result;
            }
            let (after, fault) = match fate.answer {
                Answer::Breaks(after, fault) => (after, fault),
                Answer::Comes(_) => (patience, Fault::Unanswered),
            };
            sleep_until(sent + after).await;
            Err(fate::error(operation.name(), fault))
        })
    }

    /// A call that lands in the moment in which it is sent. What its answer is comes after so long, if it comes.
    async fn at_once<T>(
        &self,
        landing: Landing,
        back: Option<Duration>,
        effect: impl FnOnce(&mut World, &Landing) -> Result<T, Error>,
    ) -> Option<Result<T, Error>> {
        let result = landing.land(&mut self.model.world(), effect);
        sleep_until(landing.author.sent + back?).await;
        (!self.model.world().is_cut(landing.node, landing.site)).then_some(result)
    }

    /// A call that takes its way. The caller waits for what comes of it, if anything does.
    async fn under_way<T: Send + 'static>(
        &self,
        landing: Landing,
        lands_after: Duration,
        back: Option<Duration>,
        effect: impl FnOnce(&mut World, &Landing) -> Result<T, Error> + Send + 'static,
    ) -> Option<Result<T, Error>> {
        let answer = self.send(landing, lands_after, back, effect);
        back?;
        answer.await.ok()
    }

    /// Lets a call go its way without its caller. Its answer comes so long after the effect, unless the two are cut off
    /// from each other meanwhile.
    fn send<T: Send + 'static>(
        &self,
        landing: Landing,
        lands_after: Duration,
        comes: Option<Duration>,
        effect: impl FnOnce(&mut World, &Landing) -> Result<T, Error> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, Error>> {
        let (answer, receiver) = oneshot::channel();
        let model = self.model.clone();
        at_the_server(async move {
            sleep(lands_after).await;
            let result = {
                let mut world = model.world();
                if world.is_cut(landing.node, landing.site) && world.rng.bool() {
                    return;
                }
                landing.land(&mut world, effect)
            };
            let Some(back) = comes else { return };
            if !back.is_zero() {
                sleep(back).await;
            }
            if !model.world().is_cut(landing.node, landing.site) {
                // Nobody listens any more: the caller is gone, and it is done all the same.
                drop(answer.send(result));
            }
        });
        receiver
    }
}

/// Runs what happens at the servers, whoever is there to see it.
#[expect(
    clippy::disallowed_methods,
    reason = "a service's work has no owner: it outlives whoever asked for it"
)]
pub(super) fn at_the_server(work: impl future::Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

impl Streams for Handle {
    fn describe<'a>(&'a self, stream: &'a StreamArn, what: &'a Describe) -> Future<'a, Listing> {
        let (arn, what) = (stream.clone(), what.clone());
        self.call(Operation::DescribeStream, "", move |world, landing| {
            world.describe_stream(landing, &arn, &what)
        })
    }

    fn iterator<'a>(
        &'a self,
        stream: &'a StreamArn,
        shard: &'a ShardId,
        position: &'a Position,
    ) -> Future<'a, Iterator> {
        let (arn, shard, position) = (stream.clone(), shard.clone(), *position);
        self.call(Operation::GetShardIterator, "", move |world, landing| {
            world.shard_iterator(landing, &arn, &shard, &position)
        })
    }

    fn records<'a>(&'a self, iterator: &'a Iterator, limit: u32) -> Future<'a, Page> {
        let iterator = iterator.clone();
        self.call(Operation::GetRecords, "", move |world, landing| world.records(landing, &iterator, limit))
    }
}

impl Tables for Handle {
    fn describe<'a>(&'a self, table: &'a str) -> Future<'a, Table> {
        let name = table.to_owned();
        self.call(Operation::DescribeTable, table, move |world, landing| world.describe_table(landing, &name))
    }

    fn write<'a>(&'a self, table: &'a str, changes: &'a [Change]) -> Future<'a, Written> {
        if changes.is_empty() {
            return Box::pin(future::ready(Ok(Written::default())));
        }
        let (name, changes, model) = (table.to_owned(), changes.to_vec(), self.model.clone());
        self.call(Operation::BatchWriteItem, table, move |world, landing| {
            let at = *landing;
            world.write(landing, &name, changes, |apart, id, rest| model.land_later(apart, id, rest, at))
        })
    }

    fn write_guarded<'a>(
        &'a self,
        table: &'a str,
        change: &'a Change,
        guard: &'a Guard,
    ) -> Future<'a, Guarded> {
        let operation = match change.op {
            Op::Put(_) => Operation::PutItem,
            Op::Delete => Operation::DeleteItem,
        };
        let (name, change, attribute) = (table.to_owned(), change.clone(), guard.attribute.clone());
        self.call(operation, table, move |world, landing| {
            world.write_guarded(landing, &name, change, &attribute)
        })
    }

    fn fetch<'a>(&'a self, table: &'a str, keys: &'a [Key]) -> Future<'a, Fetched> {
        if keys.is_empty() {
            return Box::pin(future::ready(Ok(Fetched::default())));
        }
        let (name, keys) = (table.to_owned(), keys.to_vec());
        self.call(Operation::BatchGetItem, table, move |world, landing| world.fetch(landing, &name, &keys))
    }

    fn scan<'a>(&'a self, table: &'a str, scan: Scan<'a>) -> Future<'a, Scanned> {
        let (name, after) = (table.to_owned(), scan.after.cloned());
        let Scan { segment, segments, items_max, consistent, .. } = scan;
        self.call(Operation::Scan, table, move |world, landing| {
            let scan = Scan { segment, segments, after: after.as_ref(), items_max, consistent };
            world.scan(landing, &name, scan)
        })
    }

    fn put<'a>(
        &'a self,
        table: &'a str,
        row: &'a Attributes,
        condition: &'a Condition,
    ) -> Future<'a, Outcome> {
        let (name, row, condition) = (table.to_owned(), row.clone(), condition.clone());
        self.call(Operation::PutItem, table, move |world, landing| world.put(landing, &name, row, &condition))
    }

    fn delete<'a>(
        &'a self,
        table: &'a str,
        row: &'a RowKey,
        condition: &'a Condition,
    ) -> Future<'a, Outcome> {
        let (name, row, condition) = (table.to_owned(), row.clone(), condition.clone());
        self.call(Operation::DeleteItem, table, move |world, landing| {
            world.delete(landing, &name, &row, &condition)
        })
    }

    fn query<'a>(
        &'a self,
        table: &'a str,
        partition: &'a str,
        prefix: &'a str,
        after: Option<&'a Item>,
    ) -> Future<'a, Rows> {
        let (name, after) = (table.to_owned(), after.cloned());
        let (partition, prefix) = (partition.to_owned(), prefix.to_owned());
        self.call(Operation::Query, table, move |world, landing| {
            world.query(landing, &name, &partition, &prefix, after.as_ref())
        })
    }

    fn create<'a>(&'a self, table: &'a str) -> Future<'a, ()> {
        let name = table.to_owned();
        self.call(Operation::CreateTable, table, move |world, landing| {
            world.create_table(landing, &name);
            Ok(())
        })
    }

    fn enable_stream<'a>(&'a self, table: &'a str) -> Future<'a, ()> {
        let name = table.to_owned();
        self.call(Operation::UpdateTable, table, move |world, landing| world.enable_stream(landing, &name))
    }
}
