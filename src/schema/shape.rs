//! A table's settings in one spelling each: the settled half of its description, without what is of the moment.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::aspect::{Aspect, Dimension, Group};
use super::description::Description;
use super::identity::Identity;

/// The settings of a table. What names the table itself is neutral, so two tables' settings can be compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) aspects: BTreeMap<Aspect, Value>,
    /// Of these nothing is known.
    pub(super) unknown: BTreeSet<Group>,
    /// The revision of the table's policy and of its stream's.
    pub(super) revisions: [Option<String>; 2],
}

// === impl Shape ===

impl Shape {
    /// That of a described table.
    pub(super) fn of(description: &Description) -> Self {
        let identity = Identity::of(&description.table);
        let mut shape = Self { aspects: BTreeMap::new(), unknown: BTreeSet::new(), revisions: [None, None] };
        shape.table(&description.table);
        shape.indexes(&description.table);
        let Description {
            tags,
            time_to_live,
            backups,
            kinesis,
            insights,
            policy,
            stream_policy,
            scaling,
            ..
        } = description;
        for (group, part, read) in [
            (Group::Tags, tags, Self::tags as fn(&mut Self, &Value, &Identity)),
            (Group::TimeToLive, time_to_live, Self::time_to_live),
            (Group::Recovery, backups, Self::recovery),
            (Group::Kinesis, kinesis, Self::kinesis),
            (Group::Insights, insights, Self::insights),
            (Group::Policy, policy, Self::policy),
            (Group::StreamPolicy, stream_policy, Self::stream_policy),
            (Group::Scaling, scaling, Self::scaling),
        ] {
            match part.known() {
                Some(value) => read(&mut shape, value, &identity),
                None => drop(shape.unknown.insert(group)),
            }
        }
        shape
    }

    pub(super) fn get(&self, aspect: &Aspect) -> Option<&Value> {
        self.aspects.get(aspect)
    }

    /// Whether it has capacity that is paid for whether it is used or not.
    pub(super) fn is_provisioned(&self) -> bool {
        self.get(&Aspect::Billing).and_then(Value::as_str) != Some("PAY_PER_REQUEST")
    }

    /// The names of its global secondary indexes.
    pub(super) fn global_indexes(&self) -> impl Iterator<Item = &String> {
        self.aspects.keys().filter_map(|aspect| match aspect {
            Aspect::GlobalIndex(index) => Some(index),
            _ => None,
        })
    }

    /// Its key attributes' definitions as a request lists them, of those whose name is `wanted`.
    pub(super) fn definitions(&self, wanted: impl Fn(&str) -> bool) -> Vec<Value> {
        let definitions = self.aspects.iter().filter_map(|(aspect, kind)| match aspect {
            Aspect::Attribute(name) if wanted(name) => {
                Some(json!({ "AttributeName": name, "AttributeType": kind }))
            }
            _ => None,
        });
        definitions.collect()
    }

    fn set(&mut self, aspect: Aspect, value: Option<Value>) {
        if let Some(value) = value {
            self.aspects.insert(aspect, value);
        }
    }

    fn table(&mut self, table: &Value) {
        self.set(Aspect::Key, Some(key(&table["KeySchema"])));
        for definition in list(&table["AttributeDefinitions"]) {
            if let Some(name) = text(&definition["AttributeName"]) {
                self.set(Aspect::Attribute(name), Some(definition["AttributeType"].clone()));
            }
        }
        // Absent on a table that was always provisioned.
        let billing = table["BillingModeSummary"]["BillingMode"].as_str().unwrap_or("PROVISIONED");
        self.set(Aspect::Billing, Some(billing.into()));
        if billing == "PROVISIONED" {
            self.set(Aspect::Throughput, throughput(&table["ProvisionedThroughput"]));
        } else {
            self.set(Aspect::OnDemand, on_demand(&table["OnDemandThroughput"]));
        }
        self.set(Aspect::Warm, warm(&table["WarmThroughput"]));
        let class = table["TableClassSummary"]["TableClass"].as_str().unwrap_or("STANDARD");
        self.set(Aspect::Class, Some(class.into()));
        self.set(Aspect::Encryption, encryption(&table["SSEDescription"]));
        let stream = &table["StreamSpecification"];
        if stream["StreamEnabled"] == true {
            self.set(Aspect::Stream, Some(stream["StreamViewType"].clone()));
        }
        let protected = table["DeletionProtectionEnabled"] == true;
        self.set(Aspect::Protection, Some(protected.into()));
    }

    fn indexes(&mut self, table: &Value) {
        for index in list(&table["LocalSecondaryIndexes"]) {
            if let Some(name) = text(&index["IndexName"]) {
                self.set(Aspect::LocalIndex(name), Some(shape(index)));
            }
        }
        let is_provisioned = self.is_provisioned();
        for index in list(&table["GlobalSecondaryIndexes"]) {
            // One that is being deleted is gone.
            let Some(name) = text(&index["IndexName"]).filter(|_| index["IndexStatus"] != "DELETING") else {
                continue;
            };
            self.set(Aspect::GlobalIndex(name.clone()), Some(shape(index)));
            if is_provisioned {
                self.set(Aspect::IndexThroughput(name.clone()), throughput(&index["ProvisionedThroughput"]));
            } else {
                self.set(Aspect::IndexOnDemand(name.clone()), on_demand(&index["OnDemandThroughput"]));
            }
            self.set(Aspect::IndexWarm(name), warm(&index["WarmThroughput"]));
        }
        for index in list(&table["VectorIndexes"]) {
            if let Some(name) = text(&index["IndexName"]).filter(|_| index["IndexStatus"] != "DELETING") {
                self.set(Aspect::VectorIndex(name), Some(vector(index)));
            }
        }
    }

    fn tags(&mut self, tags: &Value, _: &Identity) {
        for tag in list(tags) {
            if let Some(name) = text(&tag["Key"]) {
                self.set(Aspect::Tag(name), Some(tag["Value"].clone()));
            }
        }
    }

    fn time_to_live(&mut self, told: &Value, _: &Identity) {
        if matches!(told["TimeToLiveStatus"].as_str(), Some("ENABLED" | "ENABLING")) {
            self.set(Aspect::TimeToLive, Some(told["AttributeName"].clone()));
        }
    }

    fn recovery(&mut self, told: &Value, _: &Identity) {
        let told = &told["PointInTimeRecoveryDescription"];
        if told["PointInTimeRecoveryStatus"] == "ENABLED" {
            // What it was before the period could be chosen.
            let days = told["RecoveryPeriodInDays"].as_i64().unwrap_or(35);
            self.set(Aspect::Recovery, Some(json!({ "RecoveryPeriodInDays": days })));
        }
    }

    fn kinesis(&mut self, destinations: &Value, identity: &Identity) {
        for destination in list(destinations) {
            let is_on = matches!(
                destination["DestinationStatus"].as_str(),
                Some("ACTIVE" | "ENABLING" | "UPDATING" | "ENABLE_FAILED")
            );
            if let Some(arn) = text(&destination["StreamArn"]).filter(|_| is_on) {
                let precision = destination["ApproximateCreationDateTimePrecision"].as_str();
                let precision = precision.unwrap_or("MILLISECOND");
                self.set(Aspect::Kinesis(identity.neutral(&arn)), Some(precision.into()));
            }
        }
    }

    fn insights(&mut self, all: &Value, _: &Identity) {
        for told in list(all) {
            let is_on = matches!(told["ContributorInsightsStatus"].as_str(), Some("ENABLED" | "ENABLING"));
            if is_on {
                let mode = told["ContributorInsightsMode"].as_str().unwrap_or("ACCESSED_AND_THROTTLED_KEYS");
                self.set(Aspect::Insights(text(&told["IndexName"])), Some(mode.into()));
            }
        }
    }

    fn policy(&mut self, told: &Value, identity: &Identity) {
        self.revisions[0] = text(&told["RevisionId"]);
        self.set(Aspect::Policy, document(told, identity));
    }

    fn stream_policy(&mut self, told: &Value, identity: &Identity) {
        self.revisions[1] = text(&told["RevisionId"]);
        self.set(Aspect::StreamPolicy, document(told, identity));
    }

    fn scaling(&mut self, told: &Value, identity: &Identity) {
        let dimension = |of: &Value| Dimension {
            resource: identity.neutral(of["ResourceId"].as_str().unwrap_or_default()),
            dimension: of["ScalableDimension"].as_str().unwrap_or_default().to_owned(),
        };
        let name = |of: &Value, member: &str| identity.neutral(of[member].as_str().unwrap_or_default());
        for target in list(&told["ScalableTargets"]) {
            let mut bounds = pick(target, &["MinCapacity", "MaxCapacity"]);
            // What nobody suspended is told as three times false, or not at all.
            let suspended = target["SuspendedState"].as_object();
            if suspended.is_some_and(|parts| parts.values().any(|part| part == true)) {
                bounds.insert("SuspendedState".to_owned(), target["SuspendedState"].clone());
            }
            self.set(Aspect::Scaled(dimension(target)), Some(bounds.into()));
        }
        for policy in list(&told["ScalingPolicies"]) {
            let how = pick(policy, &["PolicyType", "TargetTrackingScalingPolicyConfiguration"]);
            let aspect = Aspect::ScalingPolicy(dimension(policy), name(policy, "PolicyName"));
            self.set(aspect, Some(identity.neutral_value(&how.into())));
        }
        for action in list(&told["ScheduledActions"]) {
            let how = pick(action, &["Schedule", "Timezone", "StartTime", "EndTime", "ScalableTargetAction"]);
            let aspect = Aspect::ScheduledAction(dimension(action), name(action, "ScheduledActionName"));
            self.set(aspect, Some(how.into()));
        }
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The members of an object that are there and wanted.
pub(super) fn pick(object: &Value, members: &[&str]) -> Map<String, Value> {
    let there = members.iter().filter_map(|member| {
        let value = object.get(member).filter(|value| !value.is_null())?;
        Some(((*member).to_owned(), value.clone()))
    });
    there.collect()
}

/// Hash keys before range keys, as a request has them.
fn key(schema: &Value) -> Value {
    let mut elements: Vec<Value> =
        list(schema).iter().map(|element| pick(element, &["AttributeName", "KeyType"]).into()).collect();
    elements.sort_by_key(|element| element["KeyType"] == "RANGE");
    elements.into()
}

/// An index's key and projection. The order of projected attributes means nothing.
fn shape(index: &Value) -> Value {
    json!({ "KeySchema": key(&index["KeySchema"]), "Projection": projection(&index["Projection"]) })
}

fn projection(told: &Value) -> Value {
    let mut projection = pick(told, &["ProjectionType"]);
    let mut attributes: Vec<String> = list(&told["NonKeyAttributes"]).iter().filter_map(text).collect();
    if !attributes.is_empty() {
        attributes.sort();
        projection.insert("NonKeyAttributes".to_owned(), attributes.into());
    }
    projection.into()
}

fn vector(index: &Value) -> Value {
    let members = ["VectorAttribute", "SearchSchema", "Dimensions", "DistanceFunction"];
    let mut vector = pick(index, &members);
    if index.get("Projection").is_some_and(|projection| !projection.is_null()) {
        vector.insert("Projection".to_owned(), projection(&index["Projection"]));
    }
    vector.into()
}

fn throughput(told: &Value) -> Option<Value> {
    let units = pick(told, &["ReadCapacityUnits", "WriteCapacityUnits"]);
    (!units.is_empty()).then(|| units.into())
}

/// The bounds there are; -1 is none.
fn on_demand(told: &Value) -> Option<Value> {
    let mut units = pick(told, &["MaxReadRequestUnits", "MaxWriteRequestUnits"]);
    units.retain(|_, units| units.as_i64().is_some_and(|units| units > 0));
    (!units.is_empty()).then(|| units.into())
}

fn warm(told: &Value) -> Option<Value> {
    let units = pick(told, &["ReadUnitsPerSecond", "WriteUnitsPerSecond"]);
    (!units.is_empty()).then(|| units.into())
}

/// A key of the account's; the service's own is no setting.
fn encryption(told: &Value) -> Option<Value> {
    let is_on = matches!(told["Status"].as_str(), Some("ENABLED" | "ENABLING" | "UPDATING"));
    if !is_on || told["SSEType"] == "AES256" {
        return None;
    }
    let mut encryption = Map::new();
    encryption.insert("SSEType".to_owned(), told["SSEType"].as_str().unwrap_or("KMS").into());
    if let Some(arn) = told.get("KMSMasterKeyArn").filter(|arn| arn.is_string()) {
        encryption.insert("KMSMasterKeyId".to_owned(), arn.clone());
    }
    Some(encryption.into())
}

/// A policy as the JSON it holds, so that spaces do not matter; as text when it is none.
fn document(told: &Value, identity: &Identity) -> Option<Value> {
    let text = told.get("Policy")?.as_str()?;
    let policy = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    Some(identity.neutral_value(&policy))
}
