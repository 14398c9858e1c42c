//! What is done about each setting that differs, and the call that does it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::aspect::{Aspect, Dimension, Group};
use super::identity::{STREAM_ARN, TABLE_ARN};
use super::plan::{Call, Remedy};
use super::shape::{Shape, list};
use crate::dynamo::Operation;

const ONLY_THERE: Remedy = Remedy::Left("only the replica has it");
const INDEX: Remedy = Remedy::Immutable(
    "an index's key and projection cannot be changed: delete the index by hand, then apply again",
);

/// A replica in the course of being changed.
pub(super) struct Context<'a> {
    table: &'a str,
    wanted: &'a Shape,
    found: &'a Shape,
    /// Key attributes that the replica's table and indexes use, with those that are being made.
    used: BTreeSet<String>,
}

// === impl Context ===

impl<'a> Context<'a> {
    pub(super) fn new(table: &'a str, wanted: &'a Shape, found: &'a Shape) -> Self {
        let used = found.aspects.iter().flat_map(|(aspect, value)| match aspect {
            Aspect::Key => key_attributes(value),
            Aspect::LocalIndex(_) | Aspect::GlobalIndex(_) => key_attributes(&value["KeySchema"]),
            Aspect::VectorIndex(_) => key_attributes(&value["SearchSchema"]),
            _ => Vec::new(),
        });
        Self { table, wanted, found, used: used.collect() }
    }

    /// What is done about a setting that is `have` and should be `want`.
    pub(super) fn change(
        &mut self,
        aspect: &Aspect,
        want: Option<&Value>,
        have: Option<&Value>,
    ) -> (Remedy, Option<Call>) {
        if let Some(remedy) = refusal(aspect, want, have) {
            return (remedy, None);
        }
        let is_capacity = matches!(aspect, Aspect::Throughput | Aspect::IndexThroughput(_));
        if is_capacity && have.is_some() && self.wanted.unknown.contains(&Group::Scaling) {
            return (Remedy::Left("nobody knows whether auto scaling sets it at the source"), None);
        }
        let nothing = Value::Null;
        let call = self.call(aspect, want.unwrap_or(&nothing), have);
        (Remedy::Mended, Some(call))
    }

    fn call(&mut self, aspect: &Aspect, want: &Value, have: Option<&Value>) -> Call {
        match aspect {
            Aspect::Billing => self.update(self.billing(want)),
            Aspect::Throughput => self.update(json!({ "ProvisionedThroughput": want })),
            Aspect::OnDemand => self.update(json!({ "OnDemandThroughput": bounds(want, have) })),
            Aspect::Warm => self.update(json!({ "WarmThroughput": warmer(want, have) })),
            Aspect::Class => self.update(json!({ "TableClass": want })),
            Aspect::Encryption => self.update(json!({ "SSESpecification": encryption(want) })),
            Aspect::Stream => self.update(json!({ "StreamSpecification": stream(want) })),
            Aspect::Protection => self.update(json!({ "DeletionProtectionEnabled": want })),
            Aspect::GlobalIndex(name) => {
                self.used.extend(key_attributes(&want["KeySchema"]));
                let index = global_index(self.wanted, name, want);
                self.update(json!({
                    "AttributeDefinitions": self.definitions(),
                    "GlobalSecondaryIndexUpdates": [{ "Create": index }],
                }))
            }
            Aspect::VectorIndex(name) => {
                self.used.extend(key_attributes(&want["SearchSchema"]));
                self.update(json!({
                    "AttributeDefinitions": self.definitions(),
                    "VectorIndexUpdates": [{ "Create": named(name, want) }],
                }))
            }
            Aspect::IndexThroughput(name) => self.update_index(name, "ProvisionedThroughput", want.clone()),
            Aspect::IndexOnDemand(name) => self.update_index(name, "OnDemandThroughput", bounds(want, have)),
            Aspect::IndexWarm(name) => self.update_index(name, "WarmThroughput", warmer(want, have)),
            _ => self.beside(aspect, want, have),
        }
    }

    /// What `UpdateTable` does not do.
    fn beside(&self, aspect: &Aspect, want: &Value, have: Option<&Value>) -> Call {
        let table = self.table;
        let (operation, body) = match aspect {
            Aspect::Tag(name) => (
                Operation::TagResource,
                json!({ "ResourceArn": TABLE_ARN, "Tags": [{ "Key": name, "Value": want }] }),
            ),
            Aspect::Policy => self.policy(TABLE_ARN, want, self.found.revisions[0].as_deref()),
            Aspect::StreamPolicy => self.policy(STREAM_ARN, want, self.found.revisions[1].as_deref()),
            Aspect::Recovery => {
                let mut specification = want.clone();
                specification["PointInTimeRecoveryEnabled"] = true.into();
                let body = json!({ "TableName": table, "PointInTimeRecoverySpecification": specification });
                (Operation::UpdateContinuousBackups, body)
            }
            Aspect::Kinesis(arn) => kinesis(table, arn, want, have.is_some()),
            Aspect::Insights(index) => {
                let mut body = json!({
                    "TableName": table,
                    "ContributorInsightsAction": "ENABLE",
                    "ContributorInsightsMode": want,
                });
                if let Some(index) = index {
                    body["IndexName"] = index.as_str().into();
                }
                (Operation::UpdateContributorInsights, body)
            }
            Aspect::Scaled(at) => (Operation::RegisterScalableTarget, scaled(at, &[], want)),
            Aspect::ScalingPolicy(at, name) => {
                (Operation::PutScalingPolicy, scaled(at, &[("PolicyName", name)], want))
            }
            Aspect::ScheduledAction(at, name) => {
                (Operation::PutScheduledAction, scaled(at, &[("ScheduledActionName", name)], want))
            }
            _ => {
                let specification = json!({ "Enabled": true, "AttributeName": want });
                let body = json!({ "TableName": table, "TimeToLiveSpecification": specification });
                (Operation::UpdateTimeToLive, body)
            }
        };
        Call { operation, body }
    }

    /// A change of the billing mode takes the capacity of the table and all its indexes along.
    fn billing(&self, want: &Value) -> Value {
        let mut body = json!({ "BillingMode": want });
        if want == "PROVISIONED" {
            let units = self.wanted.get(&Aspect::Throughput).cloned().unwrap_or_default();
            let index = |name: &String| {
                let own = self.wanted.get(&Aspect::IndexThroughput(name.clone())).cloned();
                let own = own.unwrap_or_else(|| units.clone());
                json!({ "Update": { "IndexName": name, "ProvisionedThroughput": own } })
            };
            let indexes: Vec<Value> = self.found.global_indexes().map(index).collect();
            if !indexes.is_empty() {
                body["GlobalSecondaryIndexUpdates"] = indexes.into();
            }
            body["ProvisionedThroughput"] = units;
        }
        body
    }

    fn policy(&self, resource: &str, want: &Value, revision: Option<&str>) -> (Operation, Value) {
        let text = want.as_str().map_or_else(|| want.to_string(), str::to_owned);
        let revision = revision.unwrap_or("NO_POLICY");
        let body = json!({ "ResourceArn": resource, "Policy": text, "ExpectedRevisionId": revision });
        (Operation::PutResourcePolicy, body)
    }

    fn update(&self, mut body: Value) -> Call {
        body["TableName"] = self.table.into();
        Call { operation: Operation::UpdateTable, body }
    }

    fn update_index(&self, index: &str, member: &str, value: Value) -> Call {
        self.update(json!({
            "GlobalSecondaryIndexUpdates": [{ "Update": { "IndexName": index, member: value } }],
        }))
    }

    /// Exactly those of the attributes that are used: more are refused.
    fn definitions(&self) -> Vec<Value> {
        let mut definitions = self.wanted.definitions(|name| self.used.contains(name));
        let known = |name: &str| self.wanted.get(&Aspect::Attribute(name.to_owned())).is_some();
        definitions.extend(self.found.definitions(|name| self.used.contains(name) && !known(name)));
        definitions
    }
}

/// Why a setting is not changed.
fn refusal(aspect: &Aspect, want: Option<&Value>, have: Option<&Value>) -> Option<Remedy> {
    Some(match (aspect, want, have) {
        (Aspect::Key, ..) => Remedy::Immutable("a table's key cannot be changed: name another table"),
        (Aspect::Attribute(_), ..) => {
            Remedy::Immutable("the type of a key attribute cannot be changed: name another table")
        }
        (Aspect::Protection, Some(want), _) if want == false => Remedy::Left("it protects the replica"),
        (Aspect::OnDemand | Aspect::IndexOnDemand(_), None, Some(_)) => return None,
        (_, None, _) => ONLY_THERE,
        (Aspect::LocalIndex(_), Some(_), None) => {
            Remedy::Immutable("a local secondary index can only be made together with the table")
        }
        (Aspect::LocalIndex(_), ..) => Remedy::Immutable("a local secondary index cannot be changed"),
        (Aspect::GlobalIndex(_) | Aspect::VectorIndex(_), Some(_), Some(_)) => INDEX,
        (Aspect::Stream, Some(_), Some(_)) => Remedy::Immutable(
            "what a stream carries cannot be changed while it is on: switch it off by hand, then apply again",
        ),
        (Aspect::TimeToLive, Some(_), Some(_)) => {
            Remedy::Immutable("items expire by another attribute: switch that off by hand, then apply again")
        }
        _ => return None,
    })
}

/// Whether a setting that differs is another setting's matter.
pub(super) fn is_covered(aspect: &Aspect, wanted: &Shape, found: &Shape) -> bool {
    let (want, have) = (wanted.get(aspect), found.get(aspect));
    let is_same_billing = wanted.is_provisioned() == found.is_provisioned();
    if let Some(index) = aspect.global_index().filter(|_| !matches!(aspect, Aspect::GlobalIndex(_))) {
        let index = Aspect::GlobalIndex(index.to_owned());
        if wanted.get(&index).is_none() || found.get(&index).is_none() {
            return true;
        }
    }
    match aspect {
        // They come and go with the indexes.
        Aspect::Attribute(_) => want.is_none() || have.is_none(),
        Aspect::Throughput | Aspect::IndexThroughput(_) => !is_same_billing,
        Aspect::OnDemand | Aspect::IndexOnDemand(_) => wanted.is_provisioned(),
        // Every table has some, whether anybody asked for it or not.
        Aspect::Warm | Aspect::IndexWarm(_) => want.is_none(),
        Aspect::StreamPolicy => wanted.get(&Aspect::Stream).is_none(),
        _ => false,
    }
}

/// Whether a setting is as it should be.
pub(super) fn is_same(aspect: &Aspect, want: Option<&Value>, have: Option<&Value>) -> bool {
    let (want, have) = match (want, have) {
        (None, None) => return true,
        (Some(want), Some(have)) => (want, have),
        _ => return false,
    };
    match aspect {
        Aspect::Encryption => want["SSEType"] == have["SSEType"] && is_key(want, have),
        Aspect::Warm | Aspect::IndexWarm(_) => {
            WARM.into_iter().all(|member| have[member].as_i64() >= want[member].as_i64())
        }
        _ => is_alike(want, have),
    }
}

/// Whether the key that is there may be the one that is wanted: by its ARN, or its ID, which ends that. What an alias
/// stands for, or which key the service's own is, cannot be seen.
fn is_key(want: &Value, have: &Value) -> bool {
    let (want, have) = (want["KMSMasterKeyId"].as_str(), have["KMSMasterKeyId"].as_str());
    let (Some(want), Some(have)) = (want, have) else { return true };
    want.contains("alias/") || have == want || have.ends_with(&format!("/{want}"))
}

/// Numbers by their value, and what is false or null as if it were not there.
fn is_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(ones), Value::Object(others)) => {
            let names: BTreeSet<&String> = ones.keys().chain(others.keys()).collect();
            names.into_iter().all(|name| is_alike(&one[name.as_str()], &other[name.as_str()]))
        }
        (Value::Array(ones), Value::Array(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| is_alike(one, other))
        }
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Null | Value::Bool(false), Value::Null | Value::Bool(false)) => true,
        _ => one == other,
    }
}

/// One call for all tags.
pub(super) fn join_tags(calls: &mut Vec<Call>) {
    let is_tag = |call: &Call| call.operation == Operation::TagResource;
    let tags: Vec<Value> =
        calls.iter().filter(|call| is_tag(call)).flat_map(|call| list(&call.body["Tags"])).cloned().collect();
    let Some(first) = calls.iter().position(is_tag) else { return };
    calls[first].body["Tags"] = tags.into();
    let mut index = 0;
    calls.retain(|call| {
        index += 1;
        index - 1 <= first || !is_tag(call)
    });
}

/// A global secondary index as a request has it.
pub(super) fn global_index(wanted: &Shape, name: &str, shape: &Value) -> Value {
    let mut index = named(name, shape);
    for (member, aspect) in [
        ("ProvisionedThroughput", Aspect::IndexThroughput(name.to_owned())),
        ("OnDemandThroughput", Aspect::IndexOnDemand(name.to_owned())),
        ("WarmThroughput", Aspect::IndexWarm(name.to_owned())),
    ] {
        if let Some(value) = wanted.get(&aspect) {
            index[member] = value.clone();
        }
    }
    index
}

/// An index's settings with its name.
pub(super) fn named(name: &str, value: &Value) -> Value {
    let mut named = value.clone();
    named["IndexName"] = name.into();
    named
}

/// An `SSESpecification`.
pub(super) fn encryption(want: &Value) -> Value {
    let mut specification = want.clone();
    specification["Enabled"] = true.into();
    specification
}

/// A `StreamSpecification`.
pub(super) fn stream(view: &Value) -> Value {
    json!({ "StreamEnabled": true, "StreamViewType": view })
}

fn kinesis(table: &str, arn: &str, precision: &Value, is_there: bool) -> (Operation, Value) {
    let (operation, member) = match is_there {
        true => (Operation::UpdateKinesisStreamingDestination, "UpdateKinesisStreamingConfiguration"),
        false => (Operation::EnableKinesisStreamingDestination, "EnableKinesisStreamingConfiguration"),
    };
    let configuration = json!({ "ApproximateCreationDateTimePrecision": precision });
    (operation, json!({ "TableName": table, "StreamArn": arn, member: configuration }))
}

fn scaled(at: &Dimension, names: &[(&str, &String)], want: &Value) -> Value {
    let mut body: Map<String, Value> = want.as_object().cloned().unwrap_or_default();
    body.insert("ServiceNamespace".to_owned(), "dynamodb".into());
    body.insert("ResourceId".to_owned(), at.resource.as_str().into());
    body.insert("ScalableDimension".to_owned(), at.dimension.as_str().into());
    for (member, name) in names {
        body.insert((*member).to_owned(), name.as_str().into());
    }
    body.into()
}

/// On-demand bounds as a request has them: -1 takes away one that is there and not wanted.
fn bounds(want: &Value, have: Option<&Value>) -> Value {
    let mut bounds = want.as_object().cloned().unwrap_or_default();
    for member in have.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        bounds.entry(member.clone()).or_insert_with(|| Value::from(-1));
    }
    bounds.into()
}

const WARM: [&str; 2] = ["ReadUnitsPerSecond", "WriteUnitsPerSecond"];

/// Warm throughput can only be raised.
fn warmer(want: &Value, have: Option<&Value>) -> Value {
    let mut warmer = want.clone();
    for member in WARM {
        let has = have.and_then(|have| have[member].as_i64());
        if let Some(has) = has.filter(|has| Some(*has) > want[member].as_i64()) {
            warmer[member] = has.into();
        }
    }
    warmer
}

fn key_attributes(schema: &Value) -> Vec<String> {
    list(schema).iter().filter_map(|element| element["AttributeName"].as_str().map(str::to_owned)).collect()
}
