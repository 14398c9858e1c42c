//! The plan: what differs, the calls that mend it, and what is not applied. Pure.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::Settings;
use super::aspect::{Aspect, Dimension, Group};
use super::change::{self, Context};
use super::create;
use super::description::{Description, Part};
use super::recorded::{self, Recorded};
use super::shape::Shape;
use crate::dynamo::Operation;

/// What it takes to make a replica's table like its source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The replica's table, by name or ARN.
    pub table: String,
    /// Whether it is missing, and the first call creates it.
    pub creates: bool,
    /// In the order in which they are made. Names that are not known before the table is there are placeholders, such
    /// as `<table-arn>`.
    pub calls: Vec<Call>,
    /// What differs now.
    pub differences: Vec<Difference>,
    /// What the source has and the replica does not get.
    pub recorded: Vec<Recorded>,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call {
    /// The operation.
    #[serde(serialize_with = "name_of")]
    pub operation: Operation,
    /// Its request.
    pub body: Value,
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The setting, as the API spells it.
    pub attribute: String,
    /// What it should be at the replica; absent where the source has no such thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Value>,
    /// What it is at the replica; absent where it has no such thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Value>,
    /// What is done about it.
    pub remedy: Remedy,
}

/// What is done about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "reason")]
pub enum Remedy {
    /// The plan's calls mend it.
    Mended,
    /// It cannot be changed, for this reason.
    Immutable(&'static str),
    /// It is left as it is, for this reason.
    Left(&'static str),
}

fn name_of<S: serde::Serializer>(operation: &Operation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(operation.name())
}

// === impl Plan ===

impl Plan {
    /// The plan for `table`, a name or an ARN, which is described as `replica`, or is missing.
    pub fn new(
        source: &Description,
        replica: Option<&Description>,
        table: &str,
        settings: &Settings,
    ) -> Self {
        let mut recorded = recorded::of(source, settings);
        let wanted = wanted(source, settings, &mut recorded);
        let mut plan = Self {
            table: table.to_owned(),
            creates: replica.is_none(),
            calls: Vec::new(),
            differences: Vec::new(),
            recorded,
        };
        match replica {
            Some(replica) => plan.compare(&wanted, replica, settings),
            None => {
                plan.differences.push(Difference {
                    attribute: "Table".to_owned(),
                    wanted: Some(source.name().into()),
                    found: None,
                    remedy: Remedy::Mended,
                });
                plan.calls = create::calls(&wanted, table);
            }
        }
        plan
    }

    /// Whether the replica is as its source wants it.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }

    fn compare(&mut self, wanted: &Shape, replica: &Description, settings: &Settings) {
        let mut found = Shape::of(replica);
        restrict(&mut found, settings);
        leave_to_scaling(wanted, &mut found);
        let table = self.table.clone();
        let mut context = Context::new(&table, wanted, &found);
        let aspects: BTreeSet<&Aspect> = wanted.aspects.keys().chain(found.aspects.keys()).collect();
        for aspect in aspects {
            if self.is_unknown(aspect, wanted, &found, replica) {
                continue;
            }
            let (want, have) = (wanted.get(aspect), found.get(aspect));
            if change::is_covered(aspect, wanted, &found) || change::is_same(aspect, want, have) {
                continue;
            }
            let (remedy, call) = context.change(aspect, want, have);
            self.calls.extend(call);
            self.differences.push(Difference {
                attribute: aspect.to_string(),
                wanted: want.cloned(),
                found: have.cloned(),
                remedy,
            });
        }
        change::join_tags(&mut self.calls);
        if !change::is_same(&Aspect::Key, wanted.get(&Aspect::Key), found.get(&Aspect::Key)) {
            // It can never hold the source's items, so it is somebody else's.
            self.calls.clear();
        }
    }

    /// Whether one of the sides does not tell. What the source does not tell is recorded already.
    fn is_unknown(&mut self, of: &Aspect, wanted: &Shape, found: &Shape, replica: &Description) -> bool {
        let group = of.group();
        if wanted.unknown.contains(&group) {
            return true;
        }
        if !found.unknown.contains(&group) {
            return false;
        }
        self.recorded.push(Recorded {
            attribute: of.to_string(),
            reason: format!("it is not known at the replica: {}", why_unknown(replica, group)),
            value: wanted.get(of).cloned().unwrap_or_default(),
        });
        true
    }
}

fn why_unknown(replica: &Description, group: Group) -> &str {
    let part = match group {
        Group::Table => return "",
        Group::Tags => &replica.tags,
        Group::TimeToLive => &replica.time_to_live,
        Group::Recovery => &replica.backups,
        Group::Kinesis => &replica.kinesis,
        Group::Insights => &replica.insights,
        Group::Policy => &replica.policy,
        Group::StreamPolicy => &replica.stream_policy,
        Group::Scaling => &replica.scaling,
    };
    match part {
        Part::Unknown(reason) => reason,
        Part::Known(_) => "",
    }
}

/// The source's settings as the replica is to have them.
fn wanted(source: &Description, settings: &Settings, recorded: &mut Vec<Recorded>) -> Shape {
    let mut wanted = Shape::of(source);
    restrict(&mut wanted, settings);
    if let Some(Value::Object(encryption)) = wanted.aspects.get_mut(&Aspect::Encryption) {
        let key = encryption.remove("KMSMasterKeyId");
        let mapped = key.as_ref().and_then(Value::as_str).and_then(|key| settings.kms_keys.get(key));
        if let Some(mapped) = mapped {
            encryption.insert("KMSMasterKeyId".to_owned(), mapped.as_str().into());
        }
    }
    if !wanted.aspects.contains_key(&Aspect::Stream) {
        wanted.aspects.remove(&Aspect::StreamPolicy);
    }
    if !wanted.is_provisioned() {
        let scaling = |aspect: &Aspect| aspect.group() == Group::Scaling;
        for (aspect, value) in wanted.aspects.iter().filter(|(aspect, _)| scaling(aspect)) {
            recorded.push(Recorded {
                attribute: aspect.to_string(),
                reason: "it has no effect on an on-demand table".to_owned(),
                value: value.clone(),
            });
        }
        wanted.aspects.retain(|aspect, _| !scaling(aspect));
    }
    begin_at_least(&mut wanted);
    wanted
}

/// Leaves out what is not carried over, at both sides, so that it is no difference either.
fn restrict(schema: &mut Shape, settings: &Settings) {
    schema.aspects.retain(|aspect, value| match aspect {
        Aspect::Warm | Aspect::IndexWarm(_) => settings.warm_throughput,
        Aspect::Policy | Aspect::StreamPolicy => settings.resource_policy,
        Aspect::Kinesis(_) => settings.kinesis,
        Aspect::Tag(name) => !name.starts_with("aws:"),
        Aspect::ScalingPolicy(..) => value["PolicyType"] == "TargetTrackingScaling",
        _ => true,
    });
}

/// A capacity that is scaled begins at its lower bound: what it is at the source is of the moment.
fn begin_at_least(wanted: &mut Shape) {
    let bounds: Vec<_> = scaled(wanted).map(|(at, bounds)| (at.clone(), bounds.clone())).collect();
    for (at, bounds) in bounds {
        let Some((aspect, member)) = capacity(&at) else { continue };
        if let Some(units) = wanted.aspects.get_mut(&aspect)
            && !bounds["MinCapacity"].is_null()
        {
            units[member] = bounds["MinCapacity"].clone();
        }
    }
}

/// What auto scaling sets at the replica is right whatever it is.
fn leave_to_scaling(wanted: &Shape, found: &mut Shape) {
    for (at, _) in scaled(wanted) {
        let Some((aspect, member)) = capacity(at) else { continue };
        if let (Some(units), Some(want)) = (found.aspects.get_mut(&aspect), wanted.get(&aspect)) {
            units[member] = want[member].clone();
        }
    }
}

fn scaled(schema: &Shape) -> impl Iterator<Item = (&Dimension, &Value)> {
    schema.aspects.iter().filter_map(|(aspect, bounds)| match aspect {
        Aspect::Scaled(at) => Some((at, bounds)),
        _ => None,
    })
}

/// Which number of which setting a dimension is.
fn capacity(at: &Dimension) -> Option<(Aspect, &'static str)> {
    let aspect = match at.resource.split_once("/index/") {
        Some((_, index)) => Aspect::IndexThroughput(index.to_owned()),
        None => Aspect::Throughput,
    };
    let member = ["ReadCapacityUnits", "WriteCapacityUnits"];
    let member = member.into_iter().find(|member| at.dimension.ends_with(member))?;
    Some((aspect, member))
}
