//! The embedded server: dynoxide in memory, one per region, with an index its schema lacks.
//!
//! Every write to a streamed table asks for the greatest sequence number of that table, and the server keeps
//! stream records in a table without any index and never deletes one, so each write scans all records before
//! it. The index makes that a lookup. It can only be added from outside: a template database is made in a
//! file, indexed there, and restored into each database in memory.

use dynoxide::Database;
use std::{io, path::PathBuf};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Covers `MAX(CAST(sequence_number AS INTEGER)) .. WHERE table_name = ?` and the read after a number.
const INDEX: &str = "CREATE INDEX stream_records_by_sequence \
     ON _stream_records(table_name, CAST(sequence_number AS INTEGER))";

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("make a directory for the template database")]
    Directory(#[source] io::Error),
    #[error("name the template database: its path is not text: {0}")]
    Path(PathBuf),
    #[error("make the embedded database")]
    Database(#[source] dynoxide::DynoxideError),
    #[error("index the template database")]
    Index(#[source] rusqlite::Error),
}

/// An empty, indexed database file to restore databases from.
#[derive(Debug)]
pub(super) struct Template {
    directory: tempfile::TempDir,
}

impl Template {
    pub(super) fn create() -> Result<Self, Error> {
        let directory = tempfile::tempdir().map_err(Error::Directory)?;
        let template = Self { directory };
        let path = template.path()?;
        drop(Database::new(&path).map_err(Error::Database)?);
        let connection = rusqlite::Connection::open(&path).map_err(Error::Index)?;
        connection.execute_batch(INDEX).map_err(Error::Index)?;
        Ok(template)
    }

    /// A fresh database in memory.
    pub(super) fn database(&self) -> Result<Database, Error> {
        let database = Database::memory().map_err(Error::Database)?;
        database.restore_from(&self.path()?).map_err(Error::Database)?;
        Ok(database)
    }

    fn path(&self) -> Result<String, Error> {
        let path = self.directory.path().join("template.db");
        path.into_os_string().into_string().map_err(|path| Error::Path(path.into()))
    }
}

/// Serves a database until the token is cancelled.
pub(super) async fn serve(listener: TcpListener, database: Database, stop: CancellationToken) {
    let served = dynoxide::server::serve_with_shutdown(listener, database, stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::warn!(%error, "embedded server ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_there_and_the_write_path_uses_it() {
        let database = Template::create().and_then(|template| template.database()).expect("a database");
        let directory = tempfile::tempdir().expect("a directory");
        let copy = directory.path().join("copy.db");
        database.vacuum_into(copy.to_str().expect("a text path")).expect("a copy");
        let connection = rusqlite::Connection::open(copy).expect("the copy opens");
        let plan: String = connection
            .query_row(
                "EXPLAIN QUERY PLAN SELECT COALESCE(MAX(CAST(sequence_number AS INTEGER)), 0) + 1 \
                 FROM _stream_records WHERE table_name = 't'",
                [],
                |row| row.get("detail"),
            )
            .expect("a plan");
        assert!(plan.contains("stream_records_by_sequence"), "{plan}");
    }
}
