//! Where a rolling verification is, and the row that keeps it.

use std::time::Duration;

use crate::control::{self, Control};
use crate::dynamo::{Condition, RowKey};
use crate::item::{Attributes, Item, Value};
use crate::verify::join::Side;

/// A place in a pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// When the pass began, in milliseconds since 1970.
    pub began_unix_ms: i64,
    /// The table that is read.
    pub side: Side,
    /// Which segment of it.
    pub segment: u32,
    /// Of how many; kept, because a place in a segment means nothing in one of another count.
    pub segments: u32,
    /// After which key, as the scan says.
    pub after: Option<Item>,
    /// Items that were compared in this pass.
    pub items: u64,
    /// When the last whole pass began.
    pub covered_unix_ms: Option<i64>,
}

/// The row of one replica.
#[derive(Clone)]
pub struct Store {
    control: Control,
    key: RowKey,
}

// === impl Place ===

impl Place {
    /// The beginning of the first pass, through tables of so many segments: the source's, then the replica's.
    pub fn new(now_unix_ms: i64, segments: [u32; 2]) -> Self {
        Self {
            began_unix_ms: now_unix_ms,
            side: Side::Source,
            segment: 0,
            segments: segments[0].max(1),
            after: None,
            items: 0,
            covered_unix_ms: None,
        }
    }

    /// Behind a page of `items` that ended at `next`. Whether the pass is over, and the next one has begun.
    pub(super) fn advance(
        &mut self,
        items: u64,
        next: Option<&Item>,
        now_unix_ms: i64,
        segments: [u32; 2],
    ) -> bool {
        self.items += items;
        self.after = next.cloned();
        if next.is_some() {
            return false;
        }
        self.segment += 1;
        if self.segment < self.segments {
            return false;
        }
        self.segment = 0;
        match self.side {
            Side::Source => {
                self.side = Side::Replica;
                self.segments = segments[1].max(1);
                false
            }
            Side::Replica => {
                let covered = Some(self.began_unix_ms);
                *self = Self { covered_unix_ms: covered, ..Self::new(now_unix_ms, segments) };
                true
            }
        }
    }

    /// How long to wait, when both tables have `items` and a pass takes `every`: until as much of the time has passed as
    /// of the items. A pass that is through earlier makes the next one wait.
    pub(super) fn pause(&self, items: u64, every: Duration, now_unix_ms: i64) -> Duration {
        let is_first = self.items == 0 && self.segment == 0 && self.side == Side::Source;
        let due_unix_ms = match (is_first, self.covered_unix_ms) {
            // The pass before began then.
            (true, Some(covered)) => covered.saturating_add(millis(every)),
            (true, None) => return Duration::ZERO,
            (false, _) => {
                let share = self.items as f64 / items.max(1) as f64;
                self.began_unix_ms.saturating_add(millis(every.mul_f64(share.min(1.0))))
            }
        };
        Duration::from_millis(u64::try_from(due_unix_ms.saturating_sub(now_unix_ms)).unwrap_or(0))
    }
}

// === impl Store ===

impl Store {
    /// That of `replica` in `replication`.
    pub fn new(control: Control, replication: &str, replica: &str) -> Self {
        let partition = format!("{replication}/verify/{replica}");
        Self { control, key: RowKey { partition, sort: "rolling".to_owned() } }
    }

    /// Where it was last; `None` when it never was.
    ///
    /// # Errors
    /// When the control table cannot be read, or the row is damaged.
    pub async fn load(&self) -> Result<Option<Place>, control::Error> {
        let rows = self.control.rows(&self.key.partition, &self.key.sort).await?;
        rows.first().map(|row| self.read(row)).transpose()
    }

    /// Keeps a place. One worker at a time does; one that was replaced and does not know it yet puts the place back by
    /// a few pages, which are compared again.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn save(&self, place: &Place) -> Result<(), control::Error> {
        let mut row = self.key.attributes();
        let mut set = |name: &str, value: Value| drop(row.insert(name.to_owned(), value));
        set("began_ms", Value::integer(place.began_unix_ms));
        set("side", Value::from(if place.side == Side::Source { "source" } else { "replica" }));
        set("segment", Value::integer(place.segment));
        set("segments", Value::integer(place.segments));
        set("items", Value::integer(place.items));
        if let Some(after) = &place.after {
            set("after", Value::from(String::from_utf8_lossy(after.as_bytes()).into_owned()));
        }
        if let Some(covered) = place.covered_unix_ms {
            set("covered_ms", Value::integer(covered));
        }
        self.control.put(&row, &Condition::Always).await?;
        Ok(())
    }

    fn read(&self, attributes: &Attributes) -> Result<Place, control::Error> {
        let row = self.control.read(attributes);
        let count = |name: &'static str| row.integer(name).map(|value| u32::try_from(value).unwrap_or(0));
        Ok(Place {
            began_unix_ms: row.integer("began_ms")?,
            side: if row.text("side")? == "replica" { Side::Replica } else { Side::Source },
            segment: count("segment")?,
            segments: count("segments")?.max(1),
            after: row
                .optional_text("after")
                .map(|text| Item::from_json(text.to_owned().into_bytes().into())),
            items: u64::try_from(row.integer("items")?).unwrap_or(0),
            covered_unix_ms: row.get("covered_ms").and_then(Value::as_i64),
        })
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
