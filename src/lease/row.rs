//! The row of one shard, and its form in the control table.

use std::collections::BTreeMap;

use crate::checkpoint::Checkpoint;
use crate::control::{self, Control};
use crate::dynamo::{RowKey, StreamArn};
use crate::item::{Attributes, Value};
use crate::shard::{Position, ShardId};

/// A process that holds leases: its worker's id, a slash, and what tells it from every other process of that id.
pub type Owner = String;

/// What a new process of the worker `id` writes into the rows that it holds. Nobody else ever writes the same, so a row
/// with it was written by this process: six hexadecimal digits tell a process from an earlier or a second one.
pub fn owner(id: &str) -> Owner {
    format!("{id}/{:06x}", fastrand::u32(..1 << 24))
}

/// The id of the worker whose process `owner` is.
pub fn worker(owner: &str) -> &str {
    owner.rsplit_once('/').map_or(owner, |(id, _)| id)
}

/// What is done with a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not read to its end everywhere.
    Open,
    /// Its end is durable in all replicas that the row knows.
    Ended,
    /// It can no longer be read, so changes are missing in the replicas; never read again by itself.
    Gap {
        /// What was found.
        reason: String,
        /// When, in milliseconds since 1970.
        found_unix_ms: i64,
    },
}

/// What one replica misses of a shard, because it could no longer be read for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// What was found.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub found_unix_ms: i64,
}

/// One shard of one replication: lease, lineage and checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The shard.
    pub shard: ShardId,
    /// The stream it belongs to.
    pub stream: StreamArn,
    /// Its parent in the stream.
    pub parent: Option<ShardId>,
    /// Who reads it.
    pub owner: Option<Owner>,
    /// Whom the last holder gave it up for; others leave it alone for a moment.
    pub handed_to: Option<Owner>,
    /// What reading it costs, as its last holder measured (see [`super::load`]); absent when nobody has.
    pub load: Option<u64>,
    /// Raised by every write of the row.
    pub counter: i64,
    /// What is done with it.
    pub state: State,
    /// Where each replica stands, by its name. A replica that is no longer configured keeps its entry.
    pub checkpoints: BTreeMap<String, Checkpoint>,
    /// Replicas, by their names, for which it can no longer be read, although it may be for others.
    pub gaps: BTreeMap<String, Gap>,
    /// When the row may be removed, in seconds since 1970.
    pub expires_unix_s: Option<i64>,
}

// === impl Row ===

impl Row {
    /// The sort keys of shard rows start with this.
    pub const PREFIX: &str = "shard/";

    /// Where the row of `shard` stands.
    pub fn key(replication: &str, shard: &ShardId) -> RowKey {
        RowKey { partition: replication.to_owned(), sort: format!("{}{shard}", Self::PREFIX) }
    }

    /// Whether `replica` has all of the shard.
    pub fn is_done_for(&self, replica: &str) -> bool {
        self.checkpoints.get(replica).is_some_and(|checkpoint| checkpoint.position.is_end())
    }

    /// Why `replica` misses changes of the shard, if it does.
    pub fn gap_of(&self, replica: &str) -> Option<Gap> {
        match &self.state {
            _ if self.is_done_for(replica) => None,
            State::Gap { reason, found_unix_ms } => {
                Some(Gap { reason: reason.clone(), found_unix_ms: *found_unix_ms })
            }
            State::Open | State::Ended => self.gaps.get(replica).cloned(),
        }
    }

    /// All gaps of those of `replicas` that lack some of the shard, with their names; without one when it is the same
    /// gap for each of them. What others miss, which are no longer configured, nobody asks for.
    pub fn all_gaps(&self, replicas: &[String]) -> Vec<(Option<&str>, Gap)> {
        let is_asked = |replica: &&String| replicas.contains(replica) && !self.is_done_for(replica);
        let unfinished = || self.checkpoints.keys().filter(is_asked);
        let gaps: Vec<_> = unfinished()
            .filter_map(|replica| Some((Some(replica.as_str()), self.gap_of(replica)?)))
            .collect();
        match &gaps[..] {
            [(_, first), others @ ..]
                if gaps.len() == unfinished().count()
                    && others.iter().all(|(_, gap)| gap.reason == first.reason) =>
            {
                vec![(None, first.clone())]
            }
            _ => gaps,
        }
    }

    /// Whether it can be read for no replica that lacks some of it.
    pub fn is_gap(&self) -> bool {
        let mut unfinished = self.checkpoints.keys().filter(|replica| !self.is_done_for(replica)).peekable();
        unfinished.peek().is_some() && unfinished.all(|replica| self.gap_of(replica).is_some())
    }

    /// Marks the row as ended when every replica has all of the shard.
    pub fn end_if_done(&mut self) {
        let done = self.checkpoints.values().all(|checkpoint| checkpoint.position.is_end());
        if done && self.state == State::Open {
            self.state = State::Ended;
        }
    }

    /// The row as the control table holds it.
    pub fn attributes(&self, replication: &str) -> Attributes {
        let mut row = Self::key(replication, &self.shard).attributes();
        let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
        set("stream_arn", self.stream.as_str().into());
        set("counter", Value::integer(self.counter));
        if let Some(parent) = &self.parent {
            set("parent", parent.as_str().into());
        }
        if let Some(owner) = &self.owner {
            set("owner", owner.as_str().into());
        }
        if let Some(heir) = &self.handed_to {
            set("handed_to", heir.as_str().into());
        }
        if let Some(load) = self.load {
            set("load", Value::integer(i64::try_from(load).unwrap_or(i64::MAX)));
        }
        match &self.state {
            State::Open => set("state", "open".into()),
            State::Ended => set("state", "ended".into()),
            State::Gap { reason, found_unix_ms } => {
                set("gap_reason", reason.as_str().into());
                set("gap_found_ms", Value::integer(*found_unix_ms));
                set("state", "gap".into())
            }
        };
        let replicas = self.checkpoints.iter().map(|(name, checkpoint)| (name.clone(), write(checkpoint)));
        set("replicas", Value::Map(replicas.collect()));
        if !self.gaps.is_empty() {
            let gaps = self.gaps.iter().map(|(name, gap)| (name.clone(), write_gap(gap)));
            set("replica_gaps", Value::Map(gaps.collect()));
        }
        if let Some(expires) = self.expires_unix_s {
            set(control::EXPIRES_AT, Value::integer(expires));
        }
        row
    }

    /// Reads a row.
    ///
    /// # Errors
    /// When an attribute is missing or has the wrong type.
    pub fn read(control: &Control, attributes: &Attributes) -> Result<Self, control::Error> {
        let row = control.read(attributes);
        let shard = row.text("sk")?.strip_prefix(Self::PREFIX).ok_or_else(|| row.wrong("sk"))?;
        let state = match row.text("state")? {
            "open" => State::Open,
            "ended" => State::Ended,
            "gap" => State::Gap {
                reason: row.text("gap_reason")?.to_owned(),
                found_unix_ms: row.integer("gap_found_ms")?,
            },
            _ => return Err(row.wrong("state")),
        };
        let replicas = row.get("replicas").and_then(Value::as_map).ok_or_else(|| row.wrong("replicas"))?;
        let checkpoint = |(name, value): (&String, &Value)| {
            let checkpoint = value.as_map().and_then(read).ok_or_else(|| row.wrong("replicas"))?;
            Ok((name.clone(), checkpoint))
        };
        let gap = |(name, value): (&String, &Value)| {
            let gap = value.as_map().and_then(read_gap).ok_or_else(|| row.wrong("replica_gaps"))?;
            Ok((name.clone(), gap))
        };
        let gaps = match row.get("replica_gaps") {
            None => BTreeMap::new(),
            Some(value) => {
                let gaps = value.as_map().ok_or_else(|| row.wrong("replica_gaps"))?;
                gaps.iter().map(gap).collect::<Result<_, control::Error>>()?
            }
        };
        Ok(Self {
            shard: shard.into(),
            stream: row.text("stream_arn")?.into(),
            parent: row.optional_text("parent").map(ShardId::from),
            owner: row.optional_text("owner").map(str::to_owned),
            handed_to: row.optional_text("handed_to").map(str::to_owned),
            load: row.optional_integer("load").and_then(|load| u64::try_from(load).ok()),
            counter: row.integer("counter")?,
            state,
            checkpoints: replicas.iter().map(checkpoint).collect::<Result<_, control::Error>>()?,
            gaps,
            expires_unix_s: row.optional_integer(control::EXPIRES_AT),
        })
    }
}

fn write(checkpoint: &Checkpoint) -> Value {
    let mut map = Attributes::new();
    let mut set = |name: &str, value: Value| map.insert(name.to_owned(), value);
    match checkpoint.position {
        Position::TrimHorizon => set("at", "trim_horizon".into()),
        Position::Latest { since_unix_ms } => {
            set("since_ms", Value::integer(since_unix_ms));
            set("at", "latest".into())
        }
        Position::At { unix_ms } => {
            set("since_ms", Value::integer(unix_ms));
            set("at", "time".into())
        }
        Position::After(sequence) => {
            set("sequence", sequence.as_str().into());
            set("at", "after".into())
        }
        Position::End => set("at", "end".into()),
    };
    set("read_through_ms", Value::integer(checkpoint.read_through_unix_ms));
    if let Some(through) = checkpoint.applied_through_unix_ms {
        set("applied_through_ms", Value::integer(through));
    }
    if checkpoint.epoch != 0 {
        set("epoch", Value::integer(checkpoint.epoch));
    }
    Value::Map(map)
}

fn read(map: &Attributes) -> Option<Checkpoint> {
    let integer = |name: &str| map.get(name).and_then(Value::as_i64);
    let position = match map.get("at")?.as_str()? {
        "trim_horizon" => Position::TrimHorizon,
        "latest" => Position::Latest { since_unix_ms: integer("since_ms")? },
        "time" => Position::At { unix_ms: integer("since_ms")? },
        "after" => Position::After(map.get("sequence")?.as_str()?.parse().ok()?),
        "end" => Position::End,
        _ => return None,
    };
    Some(Checkpoint {
        position,
        applied_through_unix_ms: integer("applied_through_ms"),
        read_through_unix_ms: integer("read_through_ms")?,
        // Absent until the replica is sought for the first time.
        epoch: integer("epoch").unwrap_or(0),
    })
}

fn write_gap(gap: &Gap) -> Value {
    let reason = ("reason".to_owned(), gap.reason.as_str().into());
    let found = ("found_ms".to_owned(), Value::integer(gap.found_unix_ms));
    Value::Map([reason, found].into_iter().collect())
}

fn read_gap(map: &Attributes) -> Option<Gap> {
    let reason = map.get("reason")?.as_str()?.to_owned();
    Some(Gap { reason, found_unix_ms: map.get("found_ms")?.as_i64()? })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::dynamo::memory::Memory;

    fn position() -> impl Strategy<Value = Position> {
        prop_oneof![
            Just(Position::TrimHorizon),
            (0..i64::MAX).prop_map(|since_unix_ms| Position::Latest { since_unix_ms }),
            (0..i64::MAX).prop_map(|unix_ms| Position::At { unix_ms }),
            "0{0,3}[1-9][0-9]{0,30}".prop_map(|text| Position::After(text.parse().expect("a number"))),
            Just(Position::End),
        ]
    }

    prop_compose! {
        fn checkpoint()(
            position in position(),
            applied_through_unix_ms in prop::option::of(0..i64::MAX),
            read_through_unix_ms in 0..i64::MAX,
            epoch in 0..i64::MAX,
        ) -> Checkpoint {
            Checkpoint { position, applied_through_unix_ms, read_through_unix_ms, epoch }
        }
    }

    prop_compose! {
        pub(crate) fn any_row()(
            shard in "shardId-[0-9]{20}-[0-9a-f]{8}",
            parent in prop::option::of("shardId-[0-9]{20}-[0-9a-f]{8}"),
            owner in prop::option::of("[a-z0-9-]{1,20}"),
            handed_to in prop::option::of("[a-z0-9/-]{1,20}"),
            load in prop::option::of(0..i64::MAX as u64),
            counter in 0..i64::MAX,
            state in prop_oneof![
                Just(State::Open),
                Just(State::Ended),
                ("\\PC{0,20}", 0..i64::MAX).prop_map(|(reason, found_unix_ms)| State::Gap { reason, found_unix_ms }),
            ],
            checkpoints in prop::collection::btree_map("[a-z]{1,8}", checkpoint(), 0..4),
            gaps in prop::collection::btree_map("[a-z]{1,8}", ("\\PC{0,20}", 0..i64::MAX), 0..3),
            expires_unix_s in prop::option::of(0..i64::MAX),
        ) -> Row {
            let gaps = gaps
                .into_iter()
                .map(|(name, (reason, found_unix_ms))| (name, Gap { reason, found_unix_ms }))
                .collect();
            Row {
                shard: shard.into(),
                stream: "arn:aws:dynamodb:eu-west-1:1:table/T/stream/x".into(),
                parent: parent.map(ShardId::from),
                owner,
                handed_to,
                load,
                counter,
                state,
                checkpoints,
                gaps,
                expires_unix_s,
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_is_read_back_as_it_was_written(row in any_row()) {
            let control = Control::new(Arc::new(Memory::default()), "control");
            prop_assert_eq!(Row::read(&control, &row.attributes("orders")).expect("our own row"), row);
        }
    }

    #[test]
    fn an_owner_tells_its_workers_id_and_no_two_processes_are_the_same() {
        for id in ["host-1", "a/b"] {
            assert_eq!(worker(&owner(id)), id);
        }
        assert_eq!(worker("of an older program"), "of an older program");
        assert_ne!(owner("a"), owner("a"));
    }

    #[test]
    fn a_damaged_row_says_where() {
        let control = Control::new(Arc::new(Memory::default()), "control");
        let key = Row::key("orders", &"shardId-1".into());
        let error = Row::read(&control, &key.attributes()).expect_err("a row without a state");
        assert!(error.to_string().contains("`orders shard/shardId-1` of control table `control`"), "{error}");
    }
}
