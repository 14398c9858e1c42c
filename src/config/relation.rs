//! What must hold between settings: names, tables written and read, times that build on each other.
//!
//! Two settings name the same table when they reach the same endpoint, region, account and table name. The
//! account is known from an ARN; without one the profile stands for it, and unequal ways of reaching a
//! table count as different tables: what offline eyes cannot know, the online check compares by ARN.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::draft::{Draft, ReplicationDraft};
use super::print;
use super::problem::Problem;
use super::settings::{Config, Endpoint, Heartbeat, HeartbeatMode, Lease, Replica};
use super::value;

/// A table, as far as the configuration tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    name: String,
    region: String,
    account: Account,
    /// `None` is AWS itself.
    address: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Account {
    Number(String),
    Profile(Option<String>),
}

/// A replica that could be read, with where it stands and what it follows.
struct Edge<'a> {
    path: String,
    replica: &'a Replica,
    source: Option<Identity>,
    target: Identity,
}

/// All relations, on whatever could be read.
pub(super) fn check(draft: &Draft) -> Vec<Problem> {
    let edges = edges(draft);
    let mut problems = Vec::new();
    replication_names(draft, &mut problems);
    replica_names(draft, &mut problems);
    own_source(&edges, &mut problems);
    written_twice(&edges, &mut problems);
    cycles(&edges, &mut problems);
    control_table(draft, &edges, &mut problems);
    times(draft, &edges, &mut problems);
    heartbeat_table(draft, &edges, &mut problems);
    problems
}

/// What is allowed and still deserves a second look.
pub fn warnings(config: &Config) -> Vec<Problem> {
    let sources: BTreeMap<Identity, &str> = config
        .replications
        .iter()
        .map(|r| (Identity::new(&r.source.table, &r.source.endpoint), r.name.as_str()))
        .collect();
    let mut warnings = Vec::new();
    for (i, replication) in config.replications.iter().enumerate() {
        for (j, replica) in replication.replicas.iter().enumerate() {
            let path = format!("replications[{i}].replicas[{j}]");
            let target = Identity::new(&replica.table, &replica.endpoint);
            if let Some(next) = sources.get(&target) {
                let message = format!("{target} is also the source of `{next}`: replicas form a chain");
                warnings.push(Problem::of(path, message).help(
                    "lag adds up along the chain; one source with several replicas is usually simpler",
                ));
            }
        }
    }
    warnings
}

impl Identity {
    fn new(table: &str, endpoint: &Endpoint) -> Self {
        let arn = value::table_arn(table);
        let role_account = endpoint.role_arn.as_deref().and_then(value::role_account);
        let number = arn.map(|(_, account, _)| account).or(role_account);
        Self {
            name: arn.map_or(table, |(_, _, name)| name).to_owned(),
            region: endpoint.region.clone(),
            account: match number {
                Some(number) => Account::Number(number.to_owned()),
                None => Account::Profile(endpoint.profile.clone()),
            },
            address: endpoint.endpoint_url.as_deref().and_then(|url| address(url, &endpoint.region)),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} in {}", self.name, self.region)?;
        match &self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

/// A URL in one spelling; `None` for the region's public endpoint.
fn address(url: &str, region: &str) -> Option<String> {
    let lower = url.to_ascii_lowercase();
    let trimmed = lower.trim_end_matches('/');
    let (scheme, rest) = trimmed.split_once("://")?;
    let default_port = if scheme == "http" { ":80" } else { ":443" };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.strip_suffix(default_port).unwrap_or(authority);
    let public = format!("dynamodb.{region}.amazonaws.com");
    if host == public || host == format!("{public}.cn") {
        return None;
    }
    let host = match host.strip_prefix("localhost") {
        Some(port) if port.is_empty() || port.starts_with(':') => format!("127.0.0.1{port}"),
        _ => host.to_owned(),
    };
    Some(format!("{scheme}://{host}{path}"))
}

fn edges(draft: &Draft) -> Vec<Edge<'_>> {
    let mut edges = Vec::new();
    for (i, replication) in draft.replications.iter().enumerate() {
        let source = replication.source.as_ref().map(|source| Identity::new(&source.table, &source.endpoint));
        for (j, draft) in replication.replicas.iter().enumerate() {
            if let Some(replica) = &draft.replica {
                let target = Identity::new(&replica.table, &replica.endpoint);
                let path = format!("replications[{i}].replicas[{j}]");
                edges.push(Edge { path, replica, source: source.clone(), target });
            }
        }
    }
    edges
}

fn replication_names(draft: &Draft, problems: &mut Vec<Problem>) {
    let names = draft.replications.iter().map(|replication| replication.name.as_deref());
    duplicates("replications", names, problems, |name| format!("two replications are named {name:?}"));
}

fn replica_names(draft: &Draft, problems: &mut Vec<Problem>) {
    for (i, ReplicationDraft { replicas, .. }) in draft.replications.iter().enumerate() {
        let list = format!("replications[{i}].replicas");
        let names = replicas.iter().map(|replica| replica.name.as_deref());
        duplicates(&list, names, problems, |name| format!("two replicas of one source are named {name:?}"));
    }
}

fn duplicates<'a>(
    list: &str,
    names: impl Iterator<Item = Option<&'a str>>,
    problems: &mut Vec<Problem>,
    message: impl Fn(&str) -> String,
) {
    let mut first = BTreeMap::new();
    for (index, name) in names.enumerate() {
        let Some(name) = name else { continue };
        if let Some(other) = first.get(name) {
            let problem = Problem::of(format!("{list}[{index}].name"), message(name));
            problems.push(problem.help(format!("the other one is `{list}[{other}]`")));
        } else {
            first.insert(name, index);
        }
    }
}

fn own_source(edges: &[Edge<'_>], problems: &mut Vec<Problem>) {
    for edge in edges.iter().filter(|edge| edge.source.as_ref() == Some(&edge.target)) {
        let message = format!("the replica is its own source: {}", edge.target);
        problems.push(
            Problem::of(&edge.path, message)
                .help("give the replica another table, region, endpoint_url, profile or role_arn"),
        );
    }
}

fn written_twice(edges: &[Edge<'_>], problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<&Identity, &str> = BTreeMap::new();
    for edge in edges {
        if let Some(other) = first.get(&edge.target) {
            let message = format!("two replicas write {}", edge.target);
            problems.push(Problem::of(&edge.path, message).help(format!(
                "the other one is `{other}`; the last write would win, whichever source it came from"
            )));
        } else {
            first.insert(&edge.target, &edge.path);
        }
    }
}

/// Reports each replica whose changes would come back to its own source through others.
fn cycles(edges: &[Edge<'_>], problems: &mut Vec<Problem>) {
    let mut next: BTreeMap<&Identity, Vec<&Identity>> = BTreeMap::new();
    let mut paths: BTreeMap<(&Identity, &Identity), &str> = BTreeMap::new();
    for edge in edges {
        match &edge.source {
            Some(source) if *source != edge.target => {
                next.entry(source).or_default().push(&edge.target);
                paths.entry((source, &edge.target)).or_insert(&edge.path);
            }
            _ => {}
        }
    }
    let mut done = BTreeSet::new();
    for start in next.keys() {
        let mut trail = Vec::new();
        walk(start, &next, &mut done, &mut trail, &mut |cycle| {
            let (Some(from), Some(to)) = (cycle.last(), cycle.first()) else {
                return;
            };
            let names: Vec<_> = cycle.iter().chain([to]).map(ToString::to_string).collect();
            let message = format!("replications form a cycle: {}", names.join(" -> "));
            problems.push(
                Problem::of(paths[&(*from, *to)], message)
                    .help("every change would go round for ever; remove one of these replicas"),
            );
        });
    }
}

/// Depth-first search; calls `found` with the tables of each cycle it closes.
fn walk<'a>(
    at: &'a Identity,
    next: &BTreeMap<&'a Identity, Vec<&'a Identity>>,
    done: &mut BTreeSet<&'a Identity>,
    trail: &mut Vec<&'a Identity>,
    found: &mut impl FnMut(&[&'a Identity]),
) {
    if let Some(begin) = trail.iter().position(|visited| *visited == at) {
        found(&trail[begin..]);
        return;
    }
    if done.contains(at) {
        return;
    }
    trail.push(at);
    for target in next.get(at).into_iter().flatten() {
        walk(target, next, done, trail, found);
    }
    trail.pop();
    done.insert(at);
}

fn control_table(draft: &Draft, edges: &[Edge<'_>], problems: &mut Vec<Problem>) {
    let Some(control) = &draft.control else { return };
    let identity = Identity::new(&control.table, &control.endpoint);
    let mut report = |path: String, what: &str| {
        let message = format!("the control table cannot be a {what}: {identity}");
        problems.push(Problem::of(path, message).help("give leases and checkpoints a table of their own"));
    };
    for (i, replication) in draft.replications.iter().enumerate() {
        let source = replication.source.as_ref();
        if source.is_some_and(|source| Identity::new(&source.table, &source.endpoint) == identity) {
            report(format!("replications[{i}].source"), "source");
        }
    }
    for edge in edges.iter().filter(|edge| edge.target == identity) {
        report(edge.path.clone(), "replica");
    }
}

/// The dedicated tables are ours alone, and there is one at each endpoint.
fn heartbeat_table(draft: &Draft, edges: &[Edge<'_>], problems: &mut Vec<Problem>) {
    let Some(Heartbeat { table, mode, .. }) = &draft.heartbeat else { return };
    let is_dedicated = |replication: &ReplicationDraft| {
        replication.heartbeat.is_some_and(|own| own.unwrap_or(*mode) == HeartbeatMode::Dedicated)
    };
    if !draft.replications.iter().any(is_dedicated) {
        return;
    }
    if value::table_arn(table).is_some() || table.len() > Heartbeat::TABLE_CHARS_MAX {
        let message = format!(
            "{table:?} cannot be the name of heartbeat tables: expected a name, no ARN, of at most {} characters",
            Heartbeat::TABLE_CHARS_MAX
        );
        let problem = Problem::of("heartbeat.table", message);
        problems.push(
            problem.help("there is one such table in every region, and its name becomes part of others"),
        );
        return;
    }
    let is_taken = |name: &str| {
        name.strip_prefix(table.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let control = draft.control.as_ref().map(|control| Identity::new(&control.table, &control.endpoint));
    let sources = edges.iter().filter_map(|edge| edge.source.as_ref());
    let targets = edges.iter().map(|edge| &edge.target);
    if let Some(other) = control.iter().chain(sources).chain(targets).find(|other| is_taken(&other.name)) {
        let message = format!("{other} has the name of a heartbeat table");
        let problem = Problem::of("heartbeat.table", message);
        problems.push(problem.help("give heartbeats a table of their own, or set heartbeat.mode to \"off\""));
    }
}

fn times(draft: &Draft, edges: &[Edge<'_>], problems: &mut Vec<Problem>) {
    if let Some(lease) = &draft.lease {
        lease_times(lease, edges, problems);
    }
    for (i, replication) in draft.replications.iter().enumerate() {
        if let Some(poll) = replication.poll.as_ref().filter(|poll| poll.idle < poll.active) {
            let (active, idle) = (print::duration(poll.active), print::duration(poll.idle));
            let message = format!("poll.idle ({idle}) is shorter than poll.active ({active})");
            let problem = Problem::of(format!("replications[{i}].poll.idle"), message);
            problems.push(problem.help("an idle shard is polled no more often than an active one"));
        }
    }
}

fn lease_times(lease: &Lease, edges: &[Edge<'_>], problems: &mut Vec<Problem>) {
    let (duration, interval) = (print::duration(lease.duration), print::duration(lease.checkpoint_interval));
    if lease.checkpoint_interval > lease.duration / Lease::CHECKPOINTS_PER_DURATION {
        let message = format!(
            "lease.checkpoint_interval ({interval}) is longer than a third of lease.duration ({duration})"
        );
        problems.push(
            Problem::of("lease.checkpoint_interval", message)
                .help("it renews the lease, and two renewals must be allowed to fail"),
        );
    }
    for edge in edges {
        let timeout = edge.replica.attempt_timeout;
        let needed = 2 * timeout + lease.checkpoint_interval;
        if lease.duration <= needed {
            let message = format!(
                "attempt_timeout ({}) is too long for lease.duration ({duration})",
                print::duration(timeout)
            );
            problems.push(Problem::of(format!("{}.attempt_timeout", edge.path), message).help(format!(
                "lease.duration must exceed 2 x attempt_timeout + lease.checkpoint_interval, here {}, so that a \
                 worker that lost its lease has stopped writing before another begins",
                print::duration(needed)
            )));
        }
    }
}
