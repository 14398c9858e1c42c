//! The layout of the control table: which rows there are, where they stand, and how a worker reads and writes
//! them.
//!
//! | partition `pk` | sort `sk` | row |
//! |---|---|---|
//! | `#dynamirror` | `layout` | the version of this layout |
//! | `#dynamirror` | `coordinator` | the lease of the worker that coordinates the fleet |
//! | `#workers` | worker id, `/`, digits of the process | a worker that runs: heartbeat, drain, the lease it asks for |
//! | `#desired` | `<replication>/<replica>` | what people want of a replica: pause, seek (see `supervisor::desired`) |
//! | replication | `shard/<shard id>` | lease and checkpoints of one shard |
//! | replication | `replica/<name>` | a replica that was started once |
//! | replication | `affinity` | the worker that holds all its shards while something is copied (see `lease::affinity`) |
//! | `<replication>/parked/<replica>` | key's digest | a parked key (see `replica::parked`) |
//! | `<replication>/payload/<replica>` | key's digest, version, part | its payload |
//! | `<replication>/copy/<replica>` | `run` | the newest copy: what was asked for, how far it is (see `copy`) |
//! | `<replication>/copy/<replica>` | `segment/<number>` | how far one segment of it is |
//! | `<replication>/repair/<replica>` | `wanted/` or `done/`, key's digest | a key to copy anew (see `copy::repair`) |
//! | `<replication>/verify/<replica>` | `rolling` | where the rolling verification is (see `verify::rolling`) |
//!
//! Names of replications and replicas hold neither `/` nor `#`, so no two rows collide. The replications of heartbeats,
//! which nobody names, are `#heartbeat/<source>`: they share their first part with no other row.

use std::sync::Arc;

use crate::dynamo::{self, Condition, Outcome, RowKey, Tables};
use crate::item::{self, Attributes, Value};

/// The version of the layout above. A table with a higher one was written by a newer program.
pub const LAYOUT_VERSION: i64 = 1;

/// The attribute by which the service removes rows that have had their day, in seconds since 1970.
pub const EXPIRES_AT: &str = "expires_at";

/// The control table of a fleet.
#[derive(Clone)]
pub struct Control {
    tables: Arc<dyn Tables>,
    table: Arc<str>,
}

/// What can be wrong with the control table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error("use control table `{table}`: {source}")]
    Call {
        /// The table.
        table: String,
        /// Why.
        source: Box<dynamo::Error>,
    },
    /// Its layout is not the one this program knows.
    #[error(
        "control table `{table}` has layout version {found}, this program knows {LAYOUT_VERSION}: \
         run the newer program that wrote it, or use another control table"
    )]
    Layout {
        /// The table.
        table: String,
        /// Its version, as text.
        found: String,
    },
    /// A row does not hold what it should.
    #[error(
        "read row `{row}` of control table `{table}`: attribute `{attribute}` is missing or has the wrong type"
    )]
    Row {
        /// The table.
        table: String,
        /// Partition and sort key.
        row: String,
        /// The attribute.
        attribute: &'static str,
    },
    /// A row is not readable at all.
    #[error("read a row of control table `{table}`")]
    Malformed {
        /// The table.
        table: String,
        /// Why.
        source: item::Malformed,
    },
}

/// A row's attributes with the means to say what is wrong with them.
pub struct Row<'a> {
    control: &'a Control,
    attributes: &'a Attributes,
}

// === impl Control ===

impl Control {
    /// The table named `table`.
    pub fn new(tables: Arc<dyn Tables>, table: &str) -> Self {
        Self { tables, table: table.into() }
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Checks that this program can use the table, and marks a new one with its layout.
    ///
    /// # Errors
    /// When the table cannot be reached, or has another layout.
    pub async fn open(&self) -> Result<(), Error> {
        let key = RowKey { partition: "#dynamirror".to_owned(), sort: "layout".to_owned() };
        let mut row = key.attributes();
        row.insert("version".to_owned(), Value::integer(LAYOUT_VERSION));
        match self.put(&row, &Condition::Absent).await? {
            Outcome::Done => Ok(()),
            Outcome::Refused(found) => {
                let version = found.as_ref().and_then(|row| row.get("version"));
                if version.and_then(Value::as_i64) == Some(LAYOUT_VERSION) {
                    return Ok(());
                }
                let found = version.map_or_else(|| "unknown".to_owned(), |value| format!("{value:?}"));
                Err(Error::Layout { table: self.table.to_string(), found })
            }
        }
    }

    /// Writes a whole row.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn put(&self, row: &Attributes, condition: &Condition) -> Result<Outcome, Error> {
        self.tables.put(&self.table, row, condition).await.map_err(|source| self.call(source))
    }

    /// Deletes a row.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete(&self, row: &RowKey, condition: &Condition) -> Result<Outcome, Error> {
        self.tables.delete(&self.table, row, condition).await.map_err(|source| self.call(source))
    }

    /// All rows of `partition` whose sort keys start with `prefix`, in their order.
    ///
    /// # Errors
    /// When a call fails or a row is unreadable.
    pub async fn rows(&self, partition: &str, prefix: &str) -> Result<Vec<Attributes>, Error> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.tables.query(&self.table, partition, prefix, after.as_ref()).await;
            let page = page.map_err(|source| self.call(source))?;
            for row in page.rows {
                let malformed = |source| Error::Malformed { table: self.table.to_string(), source };
                found.push(row.attributes().map_err(malformed)?);
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Reads a row's attributes one by one.
    pub fn read<'a>(&'a self, attributes: &'a Attributes) -> Row<'a> {
        Row { control: self, attributes }
    }

    fn call(&self, source: dynamo::Error) -> Error {
        Error::Call { table: self.table.to_string(), source: Box::new(source) }
    }
}

// === impl Row ===

impl Row<'_> {
    /// A string attribute.
    ///
    /// # Errors
    /// When it is missing or no string.
    pub fn text(&self, attribute: &'static str) -> Result<&str, Error> {
        self.attributes.get(attribute).and_then(Value::as_str).ok_or_else(|| self.wrong(attribute))
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is missing or no whole number.
    pub fn integer(&self, attribute: &'static str) -> Result<i64, Error> {
        self.attributes.get(attribute).and_then(Value::as_i64).ok_or_else(|| self.wrong(attribute))
    }

    /// A string attribute that may be missing.
    pub fn optional_text(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).and_then(Value::as_str)
    }

    /// A whole number that may be missing.
    pub fn optional_integer(&self, attribute: &str) -> Option<i64> {
        self.attributes.get(attribute).and_then(Value::as_i64)
    }

    /// Any attribute.
    pub fn get(&self, attribute: &str) -> Option<&Value> {
        self.attributes.get(attribute)
    }

    /// The error that says that `attribute` is wrong.
    pub fn wrong(&self, attribute: &'static str) -> Error {
        let part = |name: &str| self.optional_text(name).unwrap_or("?").to_owned();
        let row = format!("{} {}", part("pk"), part("sk"));
        Error::Row { table: self.control.table.to_string(), row, attribute }
    }
}
