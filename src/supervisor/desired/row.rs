//! Wishes as rows of the control table, in one partition: one query gets all of them.

use super::{Seek, Target, Wish, Wishes};
use crate::control::{self, Control};
use crate::dynamo::{Condition, Outcome, RowKey};
use crate::item::{Attributes, Value};
use crate::shard::ShardId;

/// The partition of all wishes.
const PARTITION: &str = "#desired";

/// The wishes of a fleet.
#[derive(Clone)]
pub struct Store {
    control: Control,
}

// === impl Store ===

impl Store {
    /// Those in this control table.
    pub fn new(control: Control) -> Self {
        Self { control }
    }

    /// All of them.
    ///
    /// # Errors
    /// When the control table cannot be read, or a row in it is damaged.
    pub async fn load(&self) -> Result<Wishes, control::Error> {
        let mut wishes = Wishes::default();
        for attributes in self.control.rows(PARTITION, "").await? {
            let row = self.control.read(&attributes);
            let (replication, replica) = row.text("sk")?.split_once('/').ok_or_else(|| row.wrong("sk"))?;
            wishes.insert(replication, replica, read(&self.control, &row)?);
        }
        Ok(wishes)
    }

    /// Writes the wish for a replica, made from one that was loaded before. Says whether it was written: not when
    /// another person did so since.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn save(&self, replication: &str, replica: &str, wish: &Wish) -> Result<bool, control::Error> {
        let key = RowKey { partition: PARTITION.to_owned(), sort: format!("{replication}/{replica}") };
        let mut row = key.attributes();
        write(wish, &mut row);
        let unchanged = match wish.version {
            0 => Condition::Absent,
            version => Condition::Equals { attribute: "version", value: Value::integer(version) },
        };
        Ok(matches!(self.control.put(&row, &unchanged).await?, Outcome::Done))
    }
}

fn write(wish: &Wish, row: &mut Attributes) {
    let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
    set("version", Value::integer(wish.version + 1));
    if let Some(since_unix_ms) = wish.paused_unix_ms {
        set("paused_ms", Value::integer(since_unix_ms));
    }
    if !wish.earlier.is_empty() {
        set("earlier_seeks", Value::List(wish.earlier.iter().map(earlier).collect()));
    }
    if let Some(seek) = &wish.seek {
        write_seek(seek, row);
    }
}

fn earlier(seek: &Seek) -> Value {
    let mut map = Attributes::new();
    write_seek(seek, &mut map);
    Value::Map(map)
}

fn write_seek(Seek { epoch, target, may_skip }: &Seek, row: &mut Attributes) {
    let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
    set("epoch", Value::integer(*epoch));
    set("may_skip", Value::Bool(*may_skip));
    match target {
        Target::TrimHorizon => set("target", "trim_horizon".into()),
        Target::Time { unix_ms } => {
            set("target_ms", Value::integer(*unix_ms));
            set("target", "time".into())
        }
        Target::After { shard, sequence } => {
            set("target_shard", shard.as_str().into());
            set("target_sequence", sequence.as_str().into());
            set("target", "after".into())
        }
    };
}

fn read(control: &Control, row: &control::Row<'_>) -> Result<Wish, control::Error> {
    let seek = row.get("epoch").map(|_| read_seek(row)).transpose()?;
    let wrong = || row.wrong("earlier_seeks");
    let earlier = match row.get("earlier_seeks") {
        Some(Value::List(seeks)) => {
            let read = |seek: &Value| {
                let attributes = seek.as_map().ok_or_else(wrong)?;
                read_seek(&control.read(attributes)).map_err(|_| wrong())
            };
            seeks.iter().map(read).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong()),
        None => Vec::new(),
    };
    let (paused_unix_ms, version) = (row.optional_integer("paused_ms"), row.integer("version")?);
    Ok(Wish { paused_unix_ms, seek, earlier, version })
}

fn read_seek(row: &control::Row<'_>) -> Result<Seek, control::Error> {
    let may_skip = matches!(row.get("may_skip"), Some(Value::Bool(true)));
    Ok(Seek { epoch: row.integer("epoch")?, target: target(row)?, may_skip })
}

fn target(row: &control::Row<'_>) -> Result<Target, control::Error> {
    match row.text("target")? {
        "trim_horizon" => Ok(Target::TrimHorizon),
        "time" => Ok(Target::Time { unix_ms: row.integer("target_ms")? }),
        "after" => Ok(Target::After {
            shard: ShardId::from(row.text("target_shard")?),
            sequence: row.text("target_sequence")?.parse().map_err(|_| row.wrong("target_sequence"))?,
        }),
        _ => Err(row.wrong("target")),
    }
}
