//! From the merged tree to checked settings, collecting every refusal instead of stopping at the first.
//!
//! A setting that cannot be read is `None`, and so is everything built from it; relations between settings
//! are then checked on what is left, so that one slip hides as little as possible.

use std::num::{NonZeroU64, NonZeroUsize};

use serde_json::Value;

use super::draft::{Draft, ReplicaDraft, ReplicationDraft};
use super::kind::Kind;
use super::layer::Origins;
use super::problem::Problem;
use super::relation;
use super::schema::{ROOT, Table};
use super::settings::{
    Config, Control, Endpoint, FirstCopy, Heartbeat, Http, KmsKey, Lease, Log, Poll, Replica, Schema, Source,
    Verify, Worker,
};
use super::value::{self, Refusal};

/// Reads and checks the whole tree.
pub(super) fn resolve(tree: &Value, origins: &Origins) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { origins, problems: Vec::new() };
    let draft = reader.config(&Node { value: tree, table: &ROOT, path: String::new() });
    let mut problems = reader.problems;
    problems.extend(relation::check(&draft));
    for problem in &mut problems {
        if let Some(path) = &problem.path {
            problem.place = origins.place(path);
        }
    }
    match draft.finish() {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// One table of the tree; `Value::Null` where it is absent.
struct Node<'a> {
    value: &'a Value,
    table: &'static Table,
    path: String,
}

struct Reader<'a> {
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl<'a> Node<'a> {
    fn inner(&self, name: &str) -> Node<'a> {
        let value = self.value.get(name).unwrap_or(&Value::Null);
        Node { value, table: self.table.table(name), path: self.path_of(name) }
    }

    fn elements(&self, name: &str) -> Vec<Node<'a>> {
        let list = self.value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let element = |(index, value)| Node {
            value,
            table: self.table.table(name),
            path: format!("{}[{index}]", self.path_of(name)),
        };
        list.iter().enumerate().map(element).collect()
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

impl Reader<'_> {
    fn config(&mut self, root: &Node<'_>) -> Draft {
        let draft = Draft {
            control: self.control(&root.inner("control")),
            worker: self.worker(&root.inner("worker")),
            http: self.http(&root.inner("http")),
            log: self.log(&root.inner("log")),
            lease: self.lease(&root.inner("lease")),
            heartbeat: self.heartbeat(&root.inner("heartbeat")),
            replications: root.elements("replications").iter().map(|node| self.replication(node)).collect(),
        };
        if draft.replications.is_empty() && !self.origins.is_spoiled("replications") {
            let problem = Problem::of("replications", "there is nothing to replicate");
            self.problems.push(problem.help("add a [[replications]] table with a source and its replicas"));
        }
        draft
    }

    fn control(&mut self, node: &Node<'_>) -> Option<Control> {
        let table = self.text(node, "table");
        let create = self.flag(node, "create");
        let endpoint = self.endpoint(node, table.as_deref());
        Some(Control { table: table?, endpoint: endpoint?, create: create? })
    }

    fn worker(&mut self, node: &Node<'_>) -> Option<Worker> {
        let id = self.optional(node, "id");
        let grace = self.duration(node, "grace");
        Some(Worker { id: id?, grace: grace? })
    }

    fn http(&mut self, node: &Node<'_>) -> Option<Http> {
        Some(Http { listen: self.read(node, "listen", |_, text| value::listen(text))? })
    }

    fn log(&mut self, node: &Node<'_>) -> Option<Log> {
        let format = self.read(node, "format", |_, text| value::log_format(text));
        let filter = self.text(node, "filter");
        Some(Log { format: format?, filter: filter? })
    }

    fn lease(&mut self, node: &Node<'_>) -> Option<Lease> {
        let duration = self.duration(node, "duration");
        let checkpoint_interval = self.duration(node, "checkpoint_interval");
        Some(Lease { duration: duration?, checkpoint_interval: checkpoint_interval? })
    }

    fn heartbeat(&mut self, node: &Node<'_>) -> Option<Heartbeat> {
        let mode = self.read(node, "mode", |_, text| value::heartbeat_mode(text));
        let interval = self.duration(node, "interval");
        let table = self.text(node, "table");
        let keys = self.integer(node, "keys");
        Some(Heartbeat { mode: mode?, interval: interval?, table: table?, keys: keys? })
    }

    fn replication(&mut self, node: &Node<'_>) -> ReplicationDraft {
        if self.is_gap(node) {
            return ReplicationDraft {
                name: None,
                start: None,
                heartbeat: None,
                verify: None,
                source: None,
                poll: None,
                replicas: Vec::new(),
            };
        }
        let name = self.text(node, "name");
        let start = self.read(node, "start", |_, text| value::start(text));
        let heartbeat = self.optional(node, "heartbeat");
        let heartbeat = heartbeat.map(|written| written.and_then(|text| value::heartbeat_mode(&text).ok()));
        let verify = self.verify(node);
        let source = self.source(&node.inner("source"));
        let poll = self.poll(&node.inner("poll"));
        let default_table = source.as_ref().map(|source| table_name(&source.table));
        let replicas: Vec<_> =
            node.elements("replicas").iter().map(|node| self.replica(node, default_table)).collect();
        let path = node.path_of("replicas");
        if replicas.is_empty() && !self.origins.is_spoiled(&path) {
            let problem = Problem::of(path, format!("`{}` has no replicas", node.path));
            self.problems.push(problem.help("add a [[replications.replicas]] table"));
        }
        ReplicationDraft { name, start, heartbeat, verify, source, poll, replicas }
    }

    fn verify(&mut self, node: &Node<'_>) -> Option<Verify> {
        let every = self.optional(node, "verify_every");
        let read_units = self.integer(node, "verify_read_units");
        // It was read as a duration before.
        let every = every?.and_then(|text| value::duration(&text, &Verify::EVERY).ok());
        Some(Verify { every, read_units: read_units? })
    }

    fn source(&mut self, node: &Node<'_>) -> Option<Source> {
        let table = self.text(node, "table");
        let endpoint = self.endpoint(node, table.as_deref());
        let streams_endpoint_url = self.optional(node, "streams_endpoint_url");
        Some(Source { table: table?, endpoint: endpoint?, streams_endpoint_url: streams_endpoint_url? })
    }

    fn poll(&mut self, node: &Node<'_>) -> Option<Poll> {
        let active = self.duration(node, "active");
        let idle = self.duration(node, "idle");
        let discovery = self.duration(node, "discovery");
        Some(Poll { active: active?, idle: idle?, discovery: discovery? })
    }

    fn replica(&mut self, node: &Node<'_>, default_table: Option<&str>) -> ReplicaDraft {
        if self.is_gap(node) {
            return ReplicaDraft { name: None, replica: None };
        }
        let name = self.text(node, "name");
        let written = self.optional(node, "table");
        let table = written.and_then(|table| table.or_else(|| default_table.map(str::to_owned)));
        let endpoint = self.endpoint(node, table.as_deref());
        let buffer_bytes = self.read(node, "buffer", |kind, text| match kind {
            Kind::Size(range) => value::size(text, range),
            _ => unreachable!("`buffer` is a size in the schema"),
        });
        let batches_in_flight = self.integer(node, "batches_in_flight");
        let attempt_timeout = self.duration(node, "attempt_timeout");
        let guard = self.read(node, "guard", |_, text| value::guard(text));
        let guard_attribute = self.text(node, "guard_attribute");
        let park_limit = self.integer(node, "park_limit");
        let copy = self.copy(node);
        let create = self.flag(node, "create");
        let schema = self.schema(node);
        let build = || {
            Some(Replica {
                name: name.clone()?,
                table: table?,
                endpoint: endpoint?,
                buffer_bytes: NonZeroU64::new(buffer_bytes?)?,
                batches_in_flight: NonZeroUsize::new(usize::try_from(batches_in_flight?).ok()?)?,
                attempt_timeout: attempt_timeout?,
                guard: guard?,
                guard_attribute: guard_attribute?,
                park_limit: park_limit?,
                copy: copy?,
                create: create?,
                schema: schema?,
            })
        };
        ReplicaDraft { replica: build(), name }
    }

    fn copy(&mut self, node: &Node<'_>) -> Option<FirstCopy> {
        let mode = self.read(node, "copy", |_, text| value::copy_mode(text));
        let read_units = self.optional(node, "copy_read_units");
        let consistent = self.read(node, "copy_consistent", |_, text| value::flag(text));
        let window = self.duration(node, "copy_window");
        let reconcile = self.read(node, "copy_reconcile", |_, text| value::flag(text));
        Some(FirstCopy {
            mode: mode?,
            // It was read as a number before.
            read_units: read_units?.and_then(|text| text.parse().ok()),
            consistent: consistent?,
            window: window?,
            reconcile: reconcile?,
        })
    }

    fn schema(&mut self, node: &Node<'_>) -> Option<Schema> {
        let warm_throughput = self.flag(node, "schema_warm_throughput");
        let resource_policy = self.flag(node, "schema_resource_policy");
        let kinesis = self.flag(node, "schema_kinesis");
        let keys = node.elements("schema_kms_keys");
        let keys: Vec<_> = keys.iter().map(|node| self.kms_key(node)).collect();
        Some(Schema {
            warm_throughput: warm_throughput?,
            resource_policy: resource_policy?,
            kinesis: kinesis?,
            kms_keys: keys.into_iter().collect::<Option<_>>()?,
        })
    }

    fn kms_key(&mut self, node: &Node<'_>) -> Option<KmsKey> {
        if self.is_gap(node) {
            return None;
        }
        let source = self.text(node, "source");
        let replica = self.text(node, "replica");
        Some(KmsKey { source: source?, replica: replica? })
    }

    /// The endpoint of a table that lives in `node`; `table` is its name or ARN.
    fn endpoint(&mut self, node: &Node<'_>, table: Option<&str>) -> Option<Endpoint> {
        let region = self.text(node, "region");
        let endpoint_url = self.optional(node, "endpoint_url");
        let profile = self.optional(node, "profile");
        let role_arn = self.optional(node, "role_arn");
        let external_id = self.optional(node, "external_id");
        if let (Some(Some(_)), Some(None)) = (&external_id, &role_arn) {
            let problem = Problem::of(node.path_of("external_id"), "external_id without role_arn");
            self.problems
                .push(problem.help("an external id is only sent when a role is assumed: add role_arn"));
        }
        if let (Some(region), Some((arn_region, ..))) = (&region, table.and_then(value::table_arn))
            && region != arn_region
        {
            let message = format!("region {region:?} is not that of the table's ARN, {arn_region:?}");
            self.problems.push(Problem::of(node.path_of("region"), message));
        }
        Some(Endpoint {
            region: region?,
            endpoint_url: endpoint_url?,
            profile: profile?,
            role_arn: role_arn?,
            external_id: external_id?,
        })
    }

    fn text(&mut self, node: &Node<'_>, name: &str) -> Option<String> {
        self.read(node, name, value::text)
    }

    fn flag(&mut self, node: &Node<'_>, name: &str) -> Option<bool> {
        self.read(node, name, |_, text| value::flag(text))
    }

    fn duration(&mut self, node: &Node<'_>, name: &str) -> Option<std::time::Duration> {
        self.read(node, name, |kind, text| match kind {
            Kind::Duration(range) => value::duration(text, range),
            _ => unreachable!("`{name}` is a duration in the schema"),
        })
    }

    fn integer(&mut self, node: &Node<'_>, name: &str) -> Option<u64> {
        self.read(node, name, |kind, text| match kind {
            Kind::Integer(range) => value::integer(text, range),
            _ => unreachable!("`{name}` is a number in the schema"),
        })
    }

    /// A value that is required or has a default.
    fn read<T>(
        &mut self,
        node: &Node<'_>,
        name: &str,
        parse: impl Fn(&Kind, &str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let (kind, preset) = node.table.value(name);
        let path = node.path_of(name);
        if self.origins.is_spoiled(&path) {
            return None;
        }
        match written(node, name).or_else(|| preset.text()) {
            Some(text) => self.accept(path, parse(kind, &text)),
            None => {
                self.missing(node, name, path);
                None
            }
        }
    }

    /// A value that may be absent: `None` if it cannot be read, `Some(None)` if it is not there.
    fn optional(&mut self, node: &Node<'_>, name: &str) -> Option<Option<String>> {
        let (kind, _) = node.table.value(name);
        let path = node.path_of(name);
        if self.origins.is_spoiled(&path) {
            return None;
        }
        match written(node, name) {
            Some(text) => self.accept(path, value::text(kind, &text)).map(Some),
            None => Some(None),
        }
    }

    fn accept<T>(&mut self, path: String, read: Result<T, Refusal>) -> Option<T> {
        read.map_err(|Refusal { message, help }| {
            self.problems.push(Problem { help, ..Problem::of(path, message) });
        })
        .ok()
    }

    fn missing(&mut self, node: &Node<'_>, name: &str, path: String) {
        let problem = Problem::of(path, format!("missing key `{name}` in `{}`", node.path));
        self.problems.push(match name {
            "region" => problem.help(
                "the region is not taken from AWS_REGION or a profile: the same file must mean the same tables everywhere",
            ),
            "name" => problem.help("checkpoints and metrics are kept under this name"),
            _ => problem,
        });
    }

    /// A list element that nobody wrote, because a variable or flag names a later one.
    fn is_gap(&mut self, node: &Node<'_>) -> bool {
        if !node.value.is_null() {
            return false;
        }
        let problem = Problem::of(&node.path, format!("`{}` is missing, but a later one is set", node.path));
        self.problems.push(problem.help("list indexes begin at 0 and leave no gap"));
        true
    }
}

/// The table's name, also of an ARN.
fn table_name(table: &str) -> &str {
    value::table_arn(table).map_or(table, |(_, _, name)| name)
}

/// The text of a value that was written.
fn written(node: &Node<'_>, name: &str) -> Option<String> {
    match node.value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
