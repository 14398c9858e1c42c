//! The state of all services, and who finds what in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fate::{self, Portion, Verdict};
use super::history::{History, Write};
use super::rule::{Operation, Rule, RuleId};
use super::settings::{Quirks, Settings};
use super::stream::{self, ShardRef, Stream};
use super::table::{Place, Stored, Table};
use super::{Node, Site, TableId};
use crate::dynamo::Error;
use crate::fault::Fault;
use crate::key::Key;
use crate::record::{Kind, Record, View};

/// All sites.
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) rng: fastrand::Rng,
    /// When it was made.
    pub(super) began: Instant,
    pub(super) sites: Vec<Location>,
    pub(super) tables: Vec<Table>,
    pub(super) streams: Vec<Stream>,
    pub(super) arns: BTreeMap<Arc<str>, usize>,
    pub(super) rules: Vec<(RuleId, Rule)>,
    pub(super) cuts: BTreeSet<(Node, Site)>,
    pub(super) history: History,
    /// Numbers given out: of rules, and of readers.
    pub(super) rule_count: u32,
    pub(super) reader_count: u32,
    /// Iterators of an earlier epoch have expired.
    pub(super) iterator_epoch: u32,
}

/// One site.
pub(super) struct Location {
    pub(super) name: String,
    pub(super) quirks: Quirks,
    pub(super) tables: BTreeMap<String, TableId>,
    /// When its streams were described lately.
    pub(super) describes: VecDeque<Instant>,
}

/// Who changes something, and since when it is under way.
#[derive(Clone, Copy)]
pub(super) struct Author {
    pub(super) node: Option<Node>,
    pub(super) sent: Instant,
}

/// A call at the moment in which it lands.
#[derive(Clone, Copy)]
pub(super) struct Landing {
    pub(super) operation: Operation,
    pub(super) node: Node,
    pub(super) site: Site,
    pub(super) author: Author,
    pub(super) verdict: Verdict,
}

// === impl World ===

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(settings.seed),
            settings,
            began: Instant::now(),
            sites: Vec::new(),
            tables: Vec::new(),
            streams: Vec::new(),
            arns: BTreeMap::new(),
            rules: Vec::new(),
            cuts: BTreeSet::new(),
            history: History::default(),
            rule_count: 0,
            reader_count: 0,
            iterator_epoch: 0,
        }
    }

    pub(super) fn site(&mut self, site: Site) -> &mut Location {
        &mut self.sites[usize::from(site.0)]
    }

    pub(super) fn quirks(&self, site: Site) -> &Quirks {
        &self.sites[usize::from(site.0)].quirks
    }

    pub(super) fn table(&mut self, table: TableId) -> &mut Table {
        &mut self.tables[usize::from(table.0)]
    }

    pub(super) fn is_cut(&self, node: Node, site: Site) -> bool {
        self.cuts.contains(&(node, site))
    }

    /// The table of a name or an ARN.
    pub(super) fn find_table(&self, landing: &Landing, name: &str) -> Result<TableId, Error> {
        let name = name.rsplit_once(":table/").map_or(name, |(_, name)| name);
        let tables = &self.sites[usize::from(landing.site.0)].tables;
        tables.get(name).copied().ok_or_else(|| landing.error(Fault::Missing))
    }

    pub(super) fn find_stream(&self, landing: &Landing, arn: &str) -> Result<usize, Error> {
        let found = self.arns.get(arn).copied().filter(|index| {
            let stream = &self.streams[*index];
            stream.site == landing.site && !stream.is_gone(Instant::now(), self.settings.retention)
        });
        found.ok_or_else(|| landing.error(Fault::Missing))
    }

    /// Adds a table to a site.
    pub(super) fn add_table(&mut self, table: Table) -> TableId {
        let id = TableId(u16::try_from(self.tables.len()).expect("a test has few tables"));
        let site = table.site;
        self.site(site).tables.insert(table.name.clone(), id);
        self.tables.push(table);
        id
    }

    /// Gives a table a new stream; one that is on is switched off first.
    pub(super) fn start_stream(&mut self, id: TableId, view: View) -> usize {
        self.stop_stream(id);
        let index = self.streams.len();
        let table = &self.tables[usize::from(id.0)];
        let site = table.site;
        let shards = table.shards;
        let arn = self.new_arn(id);
        let new = stream::New { arn: Arc::clone(&arn), site, view, shards };
        let stream = Stream::new(&new, Instant::now(), &mut self.rng);
        self.arns.insert(arn, index);
        self.streams.push(stream);
        self.table(id).stream = Some(index);
        index
    }

    /// A name that no stream has, ending in the time of day: of two streams of a table the later has the greater.
    fn new_arn(&self, id: TableId) -> Arc<str> {
        let table = self.table_arn(id);
        let mut unix_ms = self.settings.clock.unix_ms();
        loop {
            let label = jiff::Timestamp::from_millisecond(unix_ms).expect("a time of this age");
            let arn: Arc<str> = format!("{table}/stream/{}", label.strftime("%Y-%m-%dT%H:%M:%S%.3f")).into();
            if !self.arns.contains_key(&arn) {
                return arn;
            }
            unix_ms += 1;
        }
    }

    /// Switches a table's stream off, if it is on.
    pub(super) fn stop_stream(&mut self, id: TableId) {
        let Some(index) = self.tables[usize::from(id.0)].stream else { return };
        if self.streams[index].off_at.is_none() {
            let lag = self.quirks(self.streams[index].site).listing_lag;
            self.streams[index].switch_off(Instant::now(), lag, &mut self.rng);
        }
    }

    pub(super) fn table_arn(&self, id: TableId) -> String {
        let table = &self.tables[usize::from(id.0)];
        let site = &self.sites[usize::from(table.site.0)];
        format!("arn:aws:dynamodb:{}:000000000000:table/{}", site.name, table.name)
    }

    /// Puts an item, or deletes it; writes the record, if the table has a stream and something changed, and the history.
    pub(super) fn apply(
        &mut self,
        id: TableId,
        place: Place,
        key: &Key,
        new: Option<Stored>,
        author: Author,
    ) -> Option<(ShardRef, u64)> {
        self.change(id, place, key, new, author, false)
    }

    /// As [`apply`](Self::apply), for a removal by the service itself when `by_ttl`.
    pub(super) fn change(
        &mut self,
        id: TableId,
        place: Place,
        key: &Key,
        new: Option<Stored>,
        author: Author,
        by_ttl: bool,
    ) -> Option<(ShardRef, u64)> {
        let table = &mut self.tables[usize::from(id.0)];
        let (item, row) = match &new {
            Some(stored) => (Some(stored.item.clone()), stored.row.clone()),
            None => (None, None),
        };
        let old = match new {
            Some(stored) => table.items.insert(place.clone(), stored),
            None => table.items.remove(&place),
        };
        let staleness = self.sites[usize::from(table.site.0)].quirks.scan_staleness;
        table.remember(&place, old.clone(), staleness);
        let kind = match (&old, &item) {
            (None, Some(_)) => Some(Kind::Insert),
            (Some(old), Some(new)) if old.item != *new => Some(Kind::Modify),
            (Some(_), None) => Some(Kind::Remove),
            // What changes nothing is no change.
            _ => None,
        };
        let record = match (table.stream, kind) {
            (Some(stream), Some(kind)) if self.streams[stream].off_at.is_none() => {
                Some(self.append(stream, kind, key, item.clone(), by_ttl))
            }
            _ => None,
        };
        self.history.writes.push(Write {
            table: id,
            key: key.clone(),
            item,
            row,
            node: author.node,
            sent: author.sent - self.began,
            landed: self.began.elapsed(),
            record,
        });
        record
    }

    fn append(
        &mut self,
        stream: usize,
        kind: Kind,
        key: &Key,
        item: Option<crate::item::Item>,
        by_ttl: bool,
    ) -> (ShardRef, u64) {
        let created_unix_ms = self.settings.clock.unix_ms() / 1000 * 1000;
        let index = stream;
        let stream = &mut self.streams[index];
        let shard = stream.owner(key);
        let image = item.filter(|_| stream.view.has_new_image());
        let now = Instant::now();
        let ordinal = stream.shards[shard].append(now, &mut self.rng, |sequence| Record {
            kind,
            key: key.clone(),
            sequence,
            created_unix_ms,
            image,
            by_ttl,
        });
        (ShardRef::new(index, shard), ordinal)
    }
}

// === impl Author ===

impl Author {
    /// The test itself, now.
    pub(super) fn driver() -> Self {
        Self { node: None, sent: Instant::now() }
    }
}

// === impl Landing ===

impl Landing {
    pub(super) fn error(&self, fault: Fault) -> Error {
        fate::error(self.operation.name(), fault)
    }

    /// Does what the server does with a call.
    pub(super) fn land<T>(
        self,
        world: &mut World,
        effect: impl FnOnce(&mut World, &Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.verdict {
            Verdict::Refused(fault) => Err(self.error(fault)),
            Verdict::Failed(portion) => {
                if portion != Portion::None {
                    drop(effect(world, &self));
                }
                Err(self.error(Fault::Transient))
            }
            Verdict::Done | Verdict::Unprocessed | Verdict::Torn(_) => effect(world, &self),
        }
    }

    /// How long ago the model was made.
    pub(super) fn now(&self, world: &World) -> Duration {
        world.began.elapsed()
    }
}
