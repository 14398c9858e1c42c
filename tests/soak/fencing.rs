//! Nobody writes what another has taken over (I5), judged from what the links saw and what the processes logged.
//!
//! Two writes of one key that follow each other and come from different processes must have the second one's taking
//! of a lease between them; otherwise one of the two wrote without a right to. The taking may come up to a settle
//! time before the first write, because for so long a successor waits for what its predecessor had sent in time.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::iter::Peekable;

use serde_json::Value;

use super::fleet::{SETTLE_MS, Slot};
use crate::support::shape::{HASH, RANGE};

/// A process: the index of its place, and which start of it.
pub(super) type Process = (usize, u32);

/// When processes took leases of tables, in milliseconds since 1970, in order.
type Takes = BTreeMap<(Process, String), Vec<i64>>;

/// A batch on its way to a replica.
#[derive(Debug)]
struct Write {
    at_unix_ms: i64,
    process: Process,
    /// Table and item or key of each change.
    changes: Vec<(String, Value)>,
}

/// All writes that break the rule, a line each.
pub(super) fn late_writes(slots: &[Slot], replications: &[&str]) -> Vec<String> {
    let files = slots.iter().enumerate().map(|(index, slot)| writes(index, slot).peekable()).collect();
    let replication = |table: &str| {
        let is_of = |name: &&&str| table.contains(&format!("-{name}-replica-"));
        (*replications.iter().find(is_of).expect("a replica of one of the tables")).to_owned()
    };
    let key = |item: &Value| format!("{}{}", item[HASH], item[RANGE]);
    check(Merged { files }, &takes(slots, replications), key, replication)
}

fn check(
    writes: impl Iterator<Item = Write>,
    takes: &Takes,
    key: impl Fn(&Value) -> String,
    replication: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut last: HashMap<String, (Process, i64)> = HashMap::new();
    let mut found = Vec::new();
    for write in writes {
        for (table, item) in &write.changes {
            let key = format!("{table} {}", key(item));
            let before = last.insert(key.clone(), (write.process, write.at_unix_ms));
            let Some((process, at_unix_ms)) = before.filter(|(process, _)| *process != write.process) else {
                continue;
            };
            let between = at_unix_ms - SETTLE_MS as i64..=write.at_unix_ms;
            let taken = takes.get(&(write.process, replication(table)));
            if !taken.is_some_and(|taken| taken.iter().any(|at| between.contains(at))) {
                let (at, after_ms) = (write.at_unix_ms, write.at_unix_ms - at_unix_ms);
                found.push(format!(
                    "{} wrote {key} at {at}, {after_ms} ms after {} did, and took no lease between",
                    tell(write.process),
                    tell(process)
                ));
            }
        }
    }
    found
}

fn tell((place, start): Process) -> String {
    format!("{}-{start:03}", ["a", "b", "c"][place])
}

/// All that a place's processes sent, in order.
fn writes(place: usize, slot: &Slot) -> impl Iterator<Item = Write> + use<> {
    let file = File::open(slot.writes()).expect("the links have noted what they saw");
    BufReader::new(file).lines().map(move |line| {
        let line = line.expect("a line of text");
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().expect("time, start, body");
        let (at, start) = (part().parse().expect("a time"), part().parse().expect("a number"));
        let body: Value = serde_json::from_str(part()).expect("a body is JSON");
        Write { at_unix_ms: at, process: (place, start), changes: changes(&body) }
    })
}

fn changes(body: &Value) -> Vec<(String, Value)> {
    let tables = body["RequestItems"].as_object().expect("tables");
    let each = tables.iter().flat_map(|(table, requests)| {
        requests.as_array().expect("requests").iter().map(move |request| (table.clone(), request))
    });
    each.map(|(table, request)| match request.get("PutRequest") {
        Some(put) => (table, put["Item"].clone()),
        None => (table, request["DeleteRequest"]["Key"].clone()),
    })
    .collect()
}

fn takes(slots: &[Slot], replications: &[&str]) -> Takes {
    let mut takes = Takes::new();
    for (place, slot) in slots.iter().enumerate() {
        for start in 1..=slot.starts() {
            let log = std::fs::read_to_string(slot.log(start)).expect("a log is text");
            for line in log.lines().filter(|line| line.contains("\"lease taken\"")) {
                let told: Value = serde_json::from_str(line).expect("a line is JSON");
                let at = told["timestamp"].as_str().expect("lines tell when they were written");
                let at: jiff::Timestamp = at.parse().expect("a time");
                // In whichever field of whichever span.
                let is_of = |name: &&&str| line.contains(&format!(":\"{name}\""));
                let name = replications.iter().find(is_of).expect("one of the replications");
                let key = ((place, start), (*name).to_owned());
                takes.entry(key).or_default().push(at.as_millisecond());
            }
        }
    }
    takes
}

/// Several sequences of writes as one, by time.
struct Merged<I: Iterator<Item = Write>> {
    files: Vec<Peekable<I>>,
}

impl<I: Iterator<Item = Write>> Iterator for Merged<I> {
    type Item = Write;

    fn next(&mut self) -> Option<Write> {
        let next = |file: &mut Peekable<I>| file.peek().map_or(i64::MAX, |write| write.at_unix_ms);
        let times = self.files.iter_mut().map(next).enumerate();
        let (first, _) = times.min_by_key(|(_, at)| *at)?;
        self.files[first].next()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: Process = (0, 1);
    const B: Process = (1, 1);

    fn check_of(writes: &[(i64, Process)], takes: &[(i64, Process)]) -> usize {
        let changes = || vec![("t-orders-replica-0".to_owned(), json!("key"))];
        let writes = writes.iter().map(|(at, process)| Write {
            at_unix_ms: *at,
            process: *process,
            changes: changes(),
        });
        let mut taken = Takes::new();
        for (at, process) in takes {
            taken.entry((*process, "orders".to_owned())).or_default().push(*at);
        }
        check(writes, &taken, Value::to_string, |_| "orders".to_owned()).len()
    }

    #[test]
    fn a_successor_takes_the_lease_after_the_last_write_of_its_predecessor() {
        assert_eq!(check_of(&[(1_000, A), (2_000, A), (9_000, B)], &[(500, A), (6_000, B)]), 0);
        // Sent in time, and slow to arrive.
        assert_eq!(check_of(&[(6_400, A), (9_000, B)], &[(500, A), (6_000, B)]), 0);
        assert_eq!(check_of(&[(1_000, A), (9_000, B), (14_000, A)], &[(500, A), (6_000, B), (13_000, A)]), 0);
    }

    #[test]
    fn a_zombie_is_seen_whether_its_successor_has_written_or_not() {
        assert_eq!(check_of(&[(1_000, A), (9_000, B), (9_100, A)], &[(500, A), (6_000, B)]), 1);
        assert_eq!(check_of(&[(1_000, A), (8_900, A), (9_000, B)], &[(500, A), (6_000, B)]), 1);
    }

    #[test]
    fn writes_of_all_places_come_in_the_order_of_time() {
        let of = |times: &[i64], process| {
            let write = |at| Write { at_unix_ms: at, process, changes: Vec::new() };
            times.iter().map(|at| write(*at)).collect::<Vec<_>>().into_iter().peekable()
        };
        let merged = Merged { files: vec![of(&[1, 5, 6], A), of(&[2, 3, 7], B)] };
        assert_eq!(merged.map(|write| write.at_unix_ms).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7]);
    }
}
