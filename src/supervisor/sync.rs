//! Looks at the source: its stream's name, and all its shards, page by page.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::dynamo::{self, Listing, StreamArn, Table, Tables};
use crate::stream::Describer;

/// What a look at the source finds, piece by piece.
pub(super) enum Found {
    /// Some of the shards.
    Page(Listing),
    /// All were listed, and this is the table now.
    Complete(Box<Table>),
    /// The look failed half way; pages that came before count all the same.
    Failed(dynamo::Error),
}

/// Looks once, and tells what it finds.
pub(super) async fn look(
    tables: Arc<dyn Tables>,
    table: String,
    describer: Arc<Describer>,
    stream: StreamArn,
    found: mpsc::UnboundedSender<Found>,
) {
    // Nobody listens when the replication was drained meanwhile.
    let tell = |what| drop(found.send(what));
    let described = match tables.describe(&table).await {
        Ok(described) => described,
        Err(error) => return tell(Found::Failed(error)),
    };
    match describer.list(&stream, |page| tell(Found::Page(page))).await {
        Ok(()) => tell(Found::Complete(Box::new(described))),
        Err(error) => tell(Found::Failed(error)),
    }
}
