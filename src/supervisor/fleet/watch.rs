//! The others' rows: looked at all the time, and published when something in them changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::{Member, PARTITION, Shared, View};
use crate::control::{self, Control};
use crate::item::Attributes;
use crate::lease::{self, Observer, Owner};

/// How often the fleet is looked at: it bounds how long a want, or a drain, goes unseen, and both should be over within
/// a second. The rows of a few workers are one page and one unit of consistent reading: two of them a second are five
/// million a month, less than a dollar for each worker.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps the view of the others current. Never ends.
pub(in crate::supervisor) async fn watch(shared: Arc<Shared>, control: Control, lease: lease::Config) {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut observer = Observer::default();
    let mut is_blind = false;
    loop {
        look.tick().await;
        let rows = match timeout(lease.row_write_limit(), control.rows(PARTITION, "")).await {
            Ok(Ok(rows)) => rows,
            failed => {
                // Said once: whoever needs the control table says more.
                if !std::mem::replace(&mut is_blind, true) {
                    let error = failed.map_or_else(|_| "no answer in time".to_owned(), |it| say(&it));
                    warn!(error, "other workers cannot be seen");
                }
                continue;
            }
        };
        is_blind = false;
        let rows: Vec<_> = rows.iter().filter_map(|row| read(&control, row)).collect();
        let others = living(&mut observer, rows, &shared.me, lease.duration, Instant::now());
        shared.seen.send_if_modified(|view| {
            let is_new = view.others.as_ref() != Some(&others);
            if is_new {
                tell_changes(view, &others);
                view.others = Some(others);
            }
            is_new
        });
    }
}

fn say(failed: &Result<Vec<Attributes>, control::Error>) -> String {
    failed.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

/// A worker's row, as its owner, its counter and the rest. One of an older program has no counter but its time, which
/// rises as well; one that is damaged is no worker's.
fn read(control: &Control, row: &Attributes) -> Option<(Owner, i64, Member)> {
    let row = control.read(row);
    let counter = row.optional_integer("counter").or(row.optional_integer("heartbeat_ms"))?;
    Some((row.optional_text("sk")?.to_owned(), counter, Member::read(&row)))
}

fn tell_changes(before: &View, others: &BTreeMap<Owner, Member>) {
    let known = before.others.as_ref();
    for worker in others.keys().filter(|worker| known.is_none_or(|known| !known.contains_key(*worker))) {
        info!(worker, "another worker is there");
    }
    for worker in known.into_iter().flat_map(BTreeMap::keys).filter(|worker| !others.contains_key(*worker)) {
        info!(worker, "another worker is gone");
    }
}

/// Those of `rows` whose counters did not stand still for `duration`. One that was never seen before may be dead as well,
/// and counts as living until that is known.
fn living(
    observer: &mut Observer<Owner>,
    rows: Vec<(Owner, i64, Member)>,
    me: &str,
    duration: Duration,
    now: Instant,
) -> BTreeMap<Owner, Member> {
    observer.retain(|owner| rows.iter().any(|(other, ..)| other == owner));
    let others = rows.into_iter().filter(|(owner, ..)| owner != me);
    let living = others.filter(|(owner, counter, _)| observer.look(owner.clone(), *counter, now) < duration);
    living.map(|(owner, _, member)| (owner, member)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_lives_while_its_counter_moves() {
        let mut observer = Observer::default();
        let start = Instant::now();
        let mut living = |counter: i64, seconds: u64| {
            let row = |owner: &str| (owner.to_owned(), counter, Member::default());
            let now = start + Duration::from_secs(seconds);
            let rows = vec![row("a"), row("me")];
            let others = super::living(&mut observer, rows, "me", Duration::from_secs(10), now);
            others.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(living(5, 0), ["a"]);
        assert_eq!(living(5, 9), ["a"]);
        assert!(living(5, 10).is_empty());
        assert_eq!(living(6, 11), ["a"]);
    }

    #[test]
    fn a_row_tells_what_was_written_into_it() {
        use crate::dynamo::memory::Memory;
        use crate::item::Value;
        let control = Control::new(Arc::new(Memory::default()), "control");
        let want = super::super::Want { replication: "orders".to_owned(), shard: "s".into() };
        for member in [Member::default(), Member { draining: true, want: Some(want) }] {
            let mut row = Attributes::new();
            row.insert("sk".to_owned(), "a/1".into());
            row.insert("counter".to_owned(), Value::integer(3));
            member.write(&mut row);
            assert_eq!(read(&control, &row), Some(("a/1".to_owned(), 3, member)));
        }
        let mut older = Attributes::new();
        older.insert("sk".to_owned(), "a".into());
        assert_eq!(read(&control, &older), None);
        older.insert("heartbeat_ms".to_owned(), Value::integer(9));
        assert_eq!(read(&control, &older), Some(("a".to_owned(), 9, Member::default())));
    }
}
