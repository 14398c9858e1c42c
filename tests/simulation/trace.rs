//! What led to a violation, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::truth::{Role, Truth};

/// Lines of one kind that are shown at most, the last ones.
const LINES_MAX: usize = 40;

/// The scenario's log, and what the history says of the keys and shards that the violations name.
pub(super) fn write(truth: &Truth, log: &[String]) -> String {
    let mut text = String::new();
    let line = |text: &mut String, line: &str| writeln!(text, "{line}").expect("memory takes all");
    log.iter().for_each(|entry| line(&mut text, entry));
    let keys: BTreeSet<_> = truth.violations.iter().filter_map(|it| it.key.clone()).take(2).collect();
    let shards: BTreeSet<_> = truth.violations.iter().filter_map(|it| it.shard.clone()).take(2).collect();
    let parent = |shard| truth.sources.iter().find_map(|source| source.parents.get(shard)?.clone());
    let shards: BTreeSet<_> = shards.iter().filter_map(parent).chain(shards.iter().cloned()).collect();
    for (index, source) in truth.sources.iter().enumerate() {
        line(&mut text, &format!("--- shards of r{index}"));
        let table = source.table.expect("a source has a table");
        for state in truth.model.shards(table) {
            let row = source.lanes.get(&state.id).and_then(|lane| lane.row.as_ref());
            let shown = row.map_or("no row".to_owned(), |row| {
                format!("{:?} owner {:?}", row.state, row.owner.as_deref().unwrap_or("-"))
            });
            let parent = state.parent.as_ref().map_or("-", |parent| parent.as_str());
            let (closed, gone) =
                (if state.closed { "closed" } else { "open" }, if state.gone { " gone" } else { "" });
            let count = state.issued.len();
            line(
                &mut text,
                &format!(
                    "{} parent {parent} {closed}{gone} {count} records, {} trimmed: {shown}",
                    state.id, state.trimmed
                ),
            );
        }
    }
    for key in keys {
        line(&mut text, &format!("--- writes of {key}"));
        last(&mut text, of_key(truth, &key));
        line(&mut text, &format!("--- parked rows of {key}"));
        last(&mut text, of_parked(truth, &key));
    }
    for shard in shards {
        line(&mut text, &format!("--- row of shard {shard}"));
        last(&mut text, of_row(truth, shard.as_str()));
        line(&mut text, &format!("--- pages of shard {shard}"));
        let mut pages: Vec<_> = truth.pages.iter().filter(|((_, of), _)| *of == shard).collect();
        pages.sort_by_key(|((node, _), _)| *node);
        let mut lines = Vec::new();
        for ((node, _), pages) in pages {
            for page in pages.iter().filter(|page| page.to_exclusive > page.from) {
                lines.push((
                    page.at,
                    format!("{} read {}..{}", truth.name(*node), page.from, page.to_exclusive),
                ));
            }
        }
        lines.sort();
        last(
            &mut text,
            lines.into_iter().map(|(at, line)| format!("{:>9.3} {line}", at.as_secs_f64())).collect(),
        );
    }
    text
}

fn last(text: &mut String, lines: Vec<String>) {
    let skipped = lines.len().saturating_sub(LINES_MAX);
    for line in lines.into_iter().skip(skipped) {
        writeln!(text, "{line}").expect("memory takes all");
    }
}

fn of_key(truth: &Truth, key: &str) -> Vec<String> {
    truth.model.history(|history| {
        let writes = history.writes.iter().filter(|write| write.key.to_string() == key);
        writes
            .filter_map(|write| {
                let place = match truth.role(write.table)? {
                    Role::Source(source) => format!("r{source}"),
                    Role::Replica(source, target) => format!("r{source}/t{target}"),
                    Role::Control => return None,
                };
                let version = write.item.as_ref().and_then(super::truth::version);
                let what = version.map_or_else(|| "delete".to_owned(), |version| format!("v{version}"));
                let who = write.node.map_or_else(|| "source".to_owned(), |node| truth.name(node));
                let commit = match truth.role(write.table)? {
                    Role::Source(source) => {
                        let source = &truth.sources[source];
                        let record = write.record.map(|(_, ordinal)| ordinal);
                        let found = source.commits.iter().enumerate().find(|(_, commit)| {
                            commit.at == write.landed && Some(commit.ordinal) == record && commit.key == key
                        });
                        found.map_or(String::new(), |(id, commit)| {
                            format!(" commit {id} shard {} record {}", commit.shard, commit.ordinal)
                        })
                    }
                    _ => String::new(),
                };
                Some(format!(
                    "{:>9.3} {place} {what} by {who}, sent {:.3}{commit}",
                    write.landed.as_secs_f64(),
                    write.sent.as_secs_f64()
                ))
            })
            .collect()
    })
}

fn of_row(truth: &Truth, shard: &str) -> Vec<String> {
    truth.model.history(|history| {
        let rows = history.writes.iter().filter(|write| {
            matches!(truth.role(write.table), Some(Role::Control)) && write.key.to_string().contains(shard)
        });
        rows.filter_map(|write| {
            let row = crate::lease::Row::read(&Truth::control(), write.row.as_ref()?).ok()?;
            let who = write.node.map_or_else(String::new, |node| truth.name(node));
            let positions: Vec<_> = row
                .checkpoints
                .iter()
                .map(|(name, it)| {
                    format!(
                        "{name}={:?}/{:?}@{}",
                        it.position,
                        it.applied_through_unix_ms.map(|at| at - 1_900_000_000_000),
                        (it.epoch - 1_900_000_000_000).max(0)
                    )
                })
                .collect();
            Some(format!(
                "{:>9.3} {who} sent {:.3} owner {} counter {} {:?} parent {:?} {}",
                write.landed.as_secs_f64(),
                write.sent.as_secs_f64(),
                row.owner.as_deref().unwrap_or("-"),
                row.counter,
                row.state,
                row.parent,
                positions.join(" ")
            ))
        })
        .collect()
    })
}

fn of_parked(truth: &Truth, key: &str) -> Vec<String> {
    let name_of_key = |row: &crate::item::Attributes| {
        let text =
            |name: &str| row.get(name).and_then(crate::item::Value::as_str).unwrap_or_default().to_owned();
        (text("pk"), text("sk"), text("key"), text("version"), text("wanted"))
    };
    truth.model.history(|history| {
        let rows =
            || history.writes.iter().filter(|write| matches!(truth.role(write.table), Some(Role::Control)));
        let names: BTreeSet<_> = rows()
            .filter_map(|write| Some(name_of_key(write.row.as_ref()?)))
            .filter(|(pk, _, of, ..)| pk.contains("/parked/") && of == key)
            .map(|(pk, sk, ..)| (pk, sk))
            .collect();
        let is_of = |write: &&super::model::Write| {
            let text = write.key.to_string();
            names.iter().any(|(pk, sk)| text.contains(pk.as_str()) && text.contains(sk.as_str()))
        };
        rows()
            .filter(is_of)
            .map(|write| {
                let what = write.row.as_ref().map_or("deleted".to_owned(), |row| {
                    let (pk, _, _, version, wanted) = name_of_key(row);
                    format!("{pk} version {version} {wanted}")
                });
                let who = write.node.map_or_else(String::new, |node| truth.name(node));
                format!(
                    "{:>9.3} {what} by {who}, sent {:.3}",
                    write.landed.as_secs_f64(),
                    write.sent.as_secs_f64()
                )
            })
            .collect()
    })
}
