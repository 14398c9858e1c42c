//! The calls that make a missing table.

use serde_json::{Map, Value, json};

use super::aspect::Aspect;
use super::change::{self, Context};
use super::plan::Call;
use super::shape::Shape;
use crate::dynamo::Operation;

/// `CreateTable` with all that it takes, then the rest in order.
pub(super) fn calls(wanted: &Shape, table: &str) -> Vec<Call> {
    let mut calls = vec![Call { operation: Operation::CreateTable, body: body(wanted, table) }];
    // What is created has all that `CreateTable` sets; the rest is changed as at any other table.
    let mut created = wanted.clone();
    created.aspects.retain(|aspect, _| is_created(aspect));
    created.aspects.insert(Aspect::Protection, false.into());
    created.revisions = [None, None];
    let mut context = Context::new(table, wanted, &created);
    for (aspect, want) in &wanted.aspects {
        let have = created.get(aspect);
        if !change::is_same(aspect, Some(want), have) {
            calls.extend(context.change(aspect, Some(want), have).1);
        }
    }
    change::join_tags(&mut calls);
    calls
}

/// Whether `CreateTable` sets it.
const fn is_created(aspect: &Aspect) -> bool {
    !matches!(
        aspect,
        // A policy names the table's ARN, which is not known before.
        Aspect::Policy
            | Aspect::StreamPolicy
            | Aspect::Recovery
            | Aspect::Kinesis(_)
            | Aspect::Insights(_)
            | Aspect::Scaled(_)
            | Aspect::ScalingPolicy(..)
            | Aspect::ScheduledAction(..)
            | Aspect::TimeToLive
            | Aspect::Protection
    )
}

fn body(wanted: &Shape, table: &str) -> Value {
    let mut body = Map::new();
    let mut set = |member: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(member.to_owned(), value);
        }
    };
    set("TableName", Some(name(table).into()));
    set("AttributeDefinitions", Some(wanted.definitions(|_| true).into()));
    set("KeySchema", wanted.get(&Aspect::Key).cloned());
    set("BillingMode", wanted.get(&Aspect::Billing).cloned());
    set("ProvisionedThroughput", wanted.get(&Aspect::Throughput).cloned());
    set("OnDemandThroughput", wanted.get(&Aspect::OnDemand).cloned());
    set("WarmThroughput", wanted.get(&Aspect::Warm).cloned());
    // Endpoints that know no classes know no other either.
    set("TableClass", wanted.get(&Aspect::Class).filter(|class| *class != "STANDARD").cloned());
    set("SSESpecification", wanted.get(&Aspect::Encryption).map(change::encryption));
    set("StreamSpecification", wanted.get(&Aspect::Stream).map(change::stream));
    let (mut locals, mut globals, mut vectors, mut tags) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (aspect, value) in &wanted.aspects {
        match aspect {
            Aspect::LocalIndex(name) => locals.push(change::named(name, value)),
            Aspect::GlobalIndex(name) => globals.push(change::global_index(wanted, name, value)),
            Aspect::VectorIndex(name) => vectors.push(change::named(name, value)),
            Aspect::Tag(name) => tags.push(json!({ "Key": name, "Value": value })),
            _ => {}
        }
    }
    for (member, list) in [
        ("LocalSecondaryIndexes", locals),
        ("GlobalSecondaryIndexes", globals),
        ("VectorIndexes", vectors),
        ("Tags", tags),
    ] {
        // Empty lists are refused.
        set(member, (!list.is_empty()).then(|| list.into()));
    }
    body.into()
}

/// The name of a table that is given by name or ARN: one is only ever created in the caller's own account.
fn name(table: &str) -> &str {
    table.rsplit_once(":table/").map_or(table, |(_, name)| name)
}
