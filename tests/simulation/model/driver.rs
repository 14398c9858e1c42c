//! What a test does to the services: tables and their items, shards, trouble, and the truth afterwards.

use tokio::time::Instant;

use super::history::History;
use super::rule::{Rule, RuleId};
use super::settings::{Quirks, Settings};
use super::shard::ShardState;
use super::stream::ShardRef;
use super::table::{Stored, Table};
use super::world::{Author, Location, World};
use super::{Model, Node, Site, TableId};
use crate::dynamo::{KeyAttribute, StreamArn};
use crate::item::Item;
use crate::key::Key;
use crate::record::View;

/// Places and what is in them.
impl Model {
    /// Adds a site.
    pub(crate) fn add_site(&self, name: &str, quirks: Quirks) -> Site {
        let mut world = self.world();
        let site = Site(u16::try_from(world.sites.len()).expect("a test has few sites"));
        let (tables, describes) = Default::default();
        world.sites.push(Location { name: name.to_owned(), quirks, tables, describes });
        site
    }

    /// Adds a table with key attributes of these names and types (`S`, `N` or `B`).
    pub(crate) fn add_table(&self, site: Site, name: &str, key: &[(&str, &str)]) -> TableId {
        let attribute =
            |(name, kind): &(&str, &str)| KeyAttribute { name: (*name).into(), kind: (*kind).into() };
        self.world().add_table(Table::new(name, site, key.iter().map(attribute).collect()))
    }

    /// Adds a table of ours, keyed by `pk` and `sk`.
    pub(crate) fn add_row_table(&self, site: Site, name: &str) -> TableId {
        self.world().add_table(Table::new(name, site, Table::row_key()))
    }

    /// Switches a table's stream on, with so many shards. One that it has is replaced: its shards end, it stays
    /// readable for the retention, and the new one's numbers have nothing to do with its own.
    pub(crate) fn start_stream(&self, table: TableId, view: View, shards: usize) -> StreamArn {
        let mut world = self.world();
        world.table(table).shards = shards;
        let index = world.start_stream(table, view);
        world.streams[index].arn.clone()
    }

    /// Switches a table's stream off.
    pub(crate) fn switch_off(&self, table: TableId) {
        self.world().stop_stream(table);
    }

    /// The table of a name.
    pub(crate) fn table(&self, site: Site, name: &str) -> Option<TableId> {
        self.world().site(site).tables.get(name).copied()
    }

    /// Puts an item; the record it makes, if it changes anything in a table with a stream.
    ///
    /// # Panics
    /// When the item lacks a key attribute.
    pub(crate) fn put(&self, table: TableId, item: Item) -> Option<(ShardRef, u64)> {
        let mut world = self.world();
        let of = world.table(table);
        let key = Key::of_item(item.as_bytes(), &of.key_names).expect("a test puts items with keys");
        let place = of.place(&key).expect("a test puts items with keys");
        let stored = Stored { key: key.clone(), item, row: None };
        world.apply(table, place, &key, Some(stored), Author::driver())
    }

    /// Deletes an item.
    pub(crate) fn delete(&self, table: TableId, key: &Key) -> Option<(ShardRef, u64)> {
        self.remove(table, key, false)
    }

    /// Deletes an item as the service itself does when its time to live is over.
    pub(crate) fn expire(&self, table: TableId, key: &Key) -> Option<(ShardRef, u64)> {
        self.remove(table, key, true)
    }

    fn remove(&self, table: TableId, key: &Key, by_ttl: bool) -> Option<(ShardRef, u64)> {
        let mut world = self.world();
        let place = world.table(table).place(key)?;
        world.change(table, place, key, None, Author::driver(), by_ttl)
    }

    /// All a table holds now.
    pub(crate) fn items(&self, table: TableId) -> Vec<(Key, Item)> {
        let mut world = self.world();
        let items = world.table(table).items.values();
        items.map(|stored| (stored.key.clone(), stored.item.clone())).collect()
    }

    /// The item under a key.
    pub(crate) fn item(&self, table: TableId, key: &Key) -> Option<Item> {
        let mut world = self.world();
        let table = world.table(table);
        table.items.get(&table.place(key)?).map(|stored| stored.item.clone())
    }

    /// Looks at what happened so far.
    pub(crate) fn history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.world().history)
    }

    /// How long ago the model was made: the time that the history tells.
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.world().began.elapsed()
    }
}

/// Shards.
impl Model {
    /// The shards of a table's newest stream, in the order in which they were made.
    pub(crate) fn shards(&self, table: TableId) -> Vec<ShardState> {
        let mut world = self.world();
        let Some(stream) = world.table(table).stream else { return Vec::new() };
        let (now, retention) = (Instant::now(), world.settings.retention);
        let shards = world.streams[stream].shards.iter().enumerate();
        let state = |(index, shard): (usize, &super::shard::Shard)| ShardState {
            shard: ShardRef::new(stream, index),
            id: shard.id.clone(),
            parent: shard.parent.clone(),
            closed: shard.closed_at.is_some(),
            gone: shard.is_gone(now, retention),
            trimmed: shard.trimmed,
            issued: shard.issued.clone(),
        };
        shards.map(state).collect()
    }

    /// The open shards of a table's newest stream, in the order of what they own.
    pub(crate) fn open_shards(&self, table: TableId) -> Vec<ShardRef> {
        let mut world = self.world();
        let Some(stream) = world.table(table).stream else { return Vec::new() };
        world.streams[stream].open().map(|shard| ShardRef::new(stream, shard)).collect()
    }

    /// What a stream calls a shard.
    pub(crate) fn shard_id(&self, shard: ShardRef) -> crate::shard::ShardId {
        self.world().streams[shard.stream()].shards[shard.shard()].id.clone()
    }

    /// Ends an open shard with two children. Whether it could be.
    pub(crate) fn split(&self, shard: ShardRef) -> bool {
        self.end(shard, 2)
    }

    /// Ends an open shard with one child.
    pub(crate) fn roll(&self, shard: ShardRef) -> bool {
        self.end(shard, 1)
    }

    fn end(&self, shard: ShardRef, children: u64) -> bool {
        let mut world = self.world();
        let World { streams, rng, sites, .. } = &mut *world;
        let stream = &mut streams[shard.stream()];
        let lag = sites[usize::from(stream.site.0)].quirks.listing_lag;
        stream.end(shard.shard(), children, Instant::now(), lag, rng)
    }

    /// Removes a shard's oldest records, but for so many.
    pub(crate) fn trim(&self, shard: ShardRef, keep: usize) {
        self.world().streams[shard.stream()].shards[shard.shard()].trim(keep);
    }

    /// Removes an ended shard before its time, read or not.
    ///
    /// # Panics
    /// When it is open: what is written to it would be lost at the source itself.
    pub(crate) fn forget(&self, shard: ShardRef) {
        let mut world = self.world();
        let shard = &mut world.streams[shard.stream()].shards[shard.shard()];
        assert!(shard.closed_at.is_some(), "an open shard does not vanish");
        shard.forgotten = true;
    }

    /// No iterator that was given out so far can be used any more.
    pub(crate) fn expire_iterators(&self) {
        self.world().iterator_epoch += 1;
    }
}

/// Trouble.
impl Model {
    /// Adds a rule behind those that are there.
    pub(crate) fn rule(&self, rule: Rule) -> RuleId {
        let mut world = self.world();
        let now = Instant::now();
        world.rules.retain(|(_, rule)| !rule.is_over(now));
        world.rule_count += 1;
        let id = RuleId(world.rule_count);
        world.rules.push((id, rule));
        id
    }

    /// Ends a rule.
    pub(crate) fn lift(&self, rule: RuleId) {
        self.world().rules.retain(|(id, _)| *id != rule);
    }

    /// Cuts a node off from a site: what is under way may be lost, and so is every answer.
    pub(crate) fn cut(&self, node: Node, site: Site) {
        self.world().cuts.insert((node, site));
    }

    /// Ends a cut.
    pub(crate) fn heal(&self, node: Node, site: Site) {
        self.world().cuts.remove(&(node, site));
    }

    /// A table refuses items with this text in them from now on.
    pub(crate) fn poison(&self, table: TableId, marker: &str) {
        self.world().table(table).poison.push(marker.to_owned());
    }

    /// A table takes all items again.
    pub(crate) fn cure(&self, table: TableId) {
        self.world().table(table).poison.clear();
    }

    /// Changes how a site behaves.
    pub(crate) fn set_quirks(&self, site: Site, quirks: Quirks) {
        self.world().site(site).quirks = quirks;
    }

    /// Changes what holds for all sites.
    pub(crate) fn adjust(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.world().settings);
    }

    /// Ends all trouble but poison: rules, cuts, and listings that lag. Calls that are under way go on as they were to.
    pub(crate) fn quiesce(&self) {
        let mut world = self.world();
        world.rules.clear();
        world.cuts.clear();
        let now = Instant::now();
        for site in &mut world.sites {
            site.quirks = site.quirks.calmed();
        }
        for shard in world.streams.iter_mut().flat_map(|stream| &mut stream.shards) {
            shard.listed_at = shard.listed_at.min(now);
            shard.closing_listed_at = shard.closing_listed_at.min(now);
        }
    }
}
