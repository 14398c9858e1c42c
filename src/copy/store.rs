//! Runs and their segments as rows of the control table.
//!
//! The row of a run is written under the version that was read, by workers and by people, so that nobody overwrites
//! what another wants. The row of a segment is written under the number of its run: a worker that woke up too late and
//! still works on an earlier run writes nothing. Within a run any order is right, because each row says what *is*
//! durable; a late one of a dead worker only lets pages be read again.

use bytes::Bytes;

use super::rota::Segment;
use super::run::{Progress, Request, Run, State};
use crate::control::{self, Control, Row};
use crate::dynamo::{Condition, Outcome, RowKey};
use crate::item::{Attributes, Item, Value};

/// The sort key of the run's row.
const RUN: &str = "run";

/// Sort keys of segments' rows begin with this.
const SEGMENT: &str = "segment/";

/// The rows of the copies of one replica.
#[derive(Clone)]
pub struct Store {
    control: Control,
    partition: String,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Saved {
    /// It was done.
    Done,
    /// Somebody wrote the run meanwhile; this is what it is now, if it is still there.
    Changed(Option<Box<Run>>),
}

/// The rows of a run's segments, as this worker knows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Segments {
    run: i64,
    total: u32,
    /// For each, the run that its row is of; `None` when there is no row.
    rows: Vec<Option<i64>>,
}

/// What must be known to write the row of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    run: i64,
    total: u32,
    id: u32,
    /// The run that the row is of which is there.
    there: Option<i64>,
}

// === impl Store ===

impl Store {
    /// The copies of `replica` in `replication`.
    pub fn new(control: Control, replication: &str, replica: &str) -> Self {
        Self { control, partition: format!("{replication}/copy/{replica}") }
    }

    /// The newest run, if there was one.
    ///
    /// # Errors
    /// When the control table cannot be read, or the row is damaged.
    pub async fn load(&self) -> Result<Option<Run>, control::Error> {
        let rows = self.control.rows(&self.partition, RUN).await?;
        rows.first().map(|row| read(&self.control.read(row))).transpose()
    }

    /// Writes a run that was made from one that was loaded before, and counts its version up.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn save(&self, run: &mut Run) -> Result<Saved, control::Error> {
        let unchanged = match run.version {
            0 => Condition::Absent,
            version => Condition::Equals { attribute: "version", value: Value::integer(version) },
        };
        let next = Run { version: run.version + 1, ..run.clone() };
        let mut row = self.key(RUN).attributes();
        write(&next, &mut row);
        match self.control.put(&row, &unchanged).await? {
            Outcome::Done => {
                *run = next;
                Ok(Saved::Done)
            }
            Outcome::Refused(Some(found)) => {
                let found = read(&self.control.read(&found))?;
                // An attempt whose answer was lost was done.
                if found == next {
                    *run = found;
                    return Ok(Saved::Done);
                }
                Ok(Saved::Changed(Some(Box::new(found))))
            }
            Outcome::Refused(None) => Ok(Saved::Changed(None)),
        }
    }

    /// How far the segments of `run` are.
    ///
    /// # Errors
    /// When the control table cannot be read, or a row is damaged or of a table that was cut otherwise.
    pub(super) async fn segments(&self, run: &Run) -> Result<(Segments, Vec<Segment>), control::Error> {
        let mut known =
            Segments { run: run.id, total: run.segments, rows: vec![None; run.segments as usize] };
        let mut segments = vec![Segment::default(); run.segments as usize];
        for attributes in self.control.rows(&self.partition, SEGMENT).await? {
            let row = self.control.read(&attributes);
            let (id, of) = (index(&row)?, row.integer("run")?);
            let Some(slot) = known.rows.get_mut(id) else {
                // Of an earlier run with more of them.
                continue;
            };
            *slot = Some(of);
            if of == run.id {
                if row.integer("segments")? != i64::from(run.segments) {
                    return Err(row.wrong("segments"));
                }
                segments[id] = read_segment(&row)?;
            }
        }
        Ok((known, segments))
    }

    /// Writes how far a segment is. Says whether that could be done: not when a newer run has begun.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub(super) async fn save_segment(&self, place: Place, segment: &Segment) -> Result<bool, control::Error> {
        let mut row = self.key(&format!("{SEGMENT}{:05}", place.id)).attributes();
        row.insert("run".to_owned(), Value::integer(place.run));
        row.insert("segments".to_owned(), Value::integer(place.total));
        write_segment(segment, &mut row);
        let mut there = place.there;
        loop {
            let condition = match there {
                None => Condition::Absent,
                Some(run) => Condition::Equals { attribute: "run", value: Value::integer(run) },
            };
            match self.control.put(&row, &condition).await? {
                Outcome::Done => return Ok(true),
                Outcome::Refused(found) => {
                    let of =
                        found.as_ref().map(|found| self.control.read(found).integer("run")).transpose()?;
                    // Not twice for the same reason: rows of runs only ever get newer.
                    if of.is_some_and(|of| of > place.run) || of == there {
                        return Ok(false);
                    }
                    there = of;
                }
            }
        }
    }

    fn key(&self, sort: &str) -> RowKey {
        RowKey { partition: self.partition.clone(), sort: sort.to_owned() }
    }
}

// === impl Segments ===

impl Segments {
    /// What must be known to write the row of one.
    pub(super) fn place(&self, id: u32) -> Place {
        Place { run: self.run, total: self.total, id, there: self.rows[id as usize] }
    }

    /// The row of one is of this run now.
    pub(super) fn written(&mut self, id: u32) {
        self.rows[id as usize] = Some(self.run);
    }
}

fn write(run: &Run, row: &mut Attributes) {
    let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
    set("version", Value::integer(run.version));
    set("run", Value::integer(run.id));
    set("state", run.state.as_str().into());
    set("reconcile", Value::Bool(run.request.reconcile));
    set("consistent", Value::Bool(run.request.consistent));
    set("window_ms", whole(run.request.window.as_millis()));
    set("known_empty", Value::Bool(run.request.known_empty));
    set("segments", Value::integer(run.segments));
    set("items", Value::integer(run.progress.items));
    set("bytes", Value::integer(run.progress.bytes));
    set("segments_finished", Value::integer(run.progress.segments_finished));
    set("read_units", Value::integer(run.progress.read_units as i64));
    set("misfits", Value::integer(run.progress.misfits));
    set("expected_items", Value::integer(run.expected.0));
    set("expected_bytes", Value::integer(run.expected.1));
    set("updated_ms", Value::integer(run.updated_unix_ms));
    let numbers = [
        ("asked_units", run.request.read_units.map(i128::from)),
        ("asked_segments", run.request.segments.map(i128::from)),
        ("started_ms", run.started_unix_ms.map(i128::from)),
        ("scan_ended_ms", run.scan_ended_unix_ms.map(i128::from)),
        ("consistent_since_ms", run.consistent_since_unix_ms.map(i128::from)),
    ];
    let texts = [("reason", &run.reason), ("trouble", &run.trouble), ("misfit", &run.progress.misfit)];
    for (name, number) in numbers {
        if let Some(number) = number {
            row.insert(name.to_owned(), Value::integer(number));
        }
    }
    for (name, text) in texts {
        if let Some(text) = text {
            row.insert(name.to_owned(), text.as_str().into());
        }
    }
}

fn read(row: &Row<'_>) -> Result<Run, control::Error> {
    let text = |name: &str| row.optional_text(name).map(str::to_owned);
    let count = |name: &'static str| u64::try_from(row.integer(name)?).map_err(|_| row.wrong(name));
    let small = |name: &'static str| u32::try_from(row.integer(name)?).map_err(|_| row.wrong(name));
    let optional = |name: &str| row.optional_integer(name);
    let request = Request {
        reconcile: flag(row, "reconcile"),
        consistent: flag(row, "consistent"),
        window: std::time::Duration::from_millis(count("window_ms")?),
        read_units: optional("asked_units").and_then(|units| units.try_into().ok()),
        segments: optional("asked_segments").and_then(|count| count.try_into().ok()),
        known_empty: flag(row, "known_empty"),
    };
    Ok(Run {
        id: row.integer("run")?,
        version: row.integer("version")?,
        state: State::from_name(row.text("state")?).ok_or_else(|| row.wrong("state"))?,
        reason: text("reason"),
        request,
        segments: small("segments")?,
        progress: Progress {
            items: count("items")?,
            bytes: count("bytes")?,
            segments_finished: small("segments_finished")?,
            read_units: row.integer("read_units")? as f64,
            misfits: count("misfits")?,
            misfit: text("misfit"),
        },
        expected: (count("expected_items")?, count("expected_bytes")?),
        started_unix_ms: optional("started_ms"),
        scan_ended_unix_ms: optional("scan_ended_ms"),
        consistent_since_unix_ms: optional("consistent_since_ms"),
        trouble: text("trouble"),
        updated_unix_ms: row.integer("updated_ms")?,
    })
}

fn write_segment(segment: &Segment, row: &mut Attributes) {
    row.insert("finished".to_owned(), Value::Bool(segment.finished));
    row.insert("items".to_owned(), Value::integer(segment.items));
    row.insert("bytes".to_owned(), Value::integer(segment.bytes));
    if let Some(after) = &segment.after {
        // As text: it goes back to the service as it came, and a number in it keeps its spelling.
        row.insert("after".to_owned(), Value::from(format!("{after:?}")));
    }
}

fn read_segment(row: &Row<'_>) -> Result<Segment, control::Error> {
    let count = |name: &'static str| u64::try_from(row.integer(name)?).map_err(|_| row.wrong(name));
    let after =
        row.optional_text("after").map(|text| Item::from_json(Bytes::copy_from_slice(text.as_bytes())));
    Ok(Segment { after, finished: flag(row, "finished"), items: count("items")?, bytes: count("bytes")? })
}

fn index(row: &Row<'_>) -> Result<usize, control::Error> {
    let digits = row.text("sk")?.strip_prefix(SEGMENT).ok_or_else(|| row.wrong("sk"))?;
    digits.parse().map_err(|_| row.wrong("sk"))
}

fn flag(row: &Row<'_>, name: &str) -> bool {
    matches!(row.get(name), Some(Value::Bool(true)))
}

fn whole(number: u128) -> Value {
    Value::integer(i128::try_from(number).unwrap_or(i128::MAX))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
