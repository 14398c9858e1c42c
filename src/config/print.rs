//! The configuration as text: the effective one, the commented example, the reference.

use std::fmt::Write as _;
use std::time::Duration;

use super::kind::{Kind, Preset};
use super::problem::mask_userinfo;
use super::schema::{Entry, ROOT, Shape, Table};
use super::settings::{Config, Endpoint, Replica, Replication, Start};

/// The configuration that is in force, as TOML that loads back to the same value. Settings that are absent
/// are left out; credentials in a URL, which checked configurations never have, are masked.
pub fn effective(config: &Config) -> String {
    let mut page = Page::default();
    page.header("[control]");
    page.text("table", &config.control.table);
    page.endpoint(&config.control.endpoint);
    page.plain("create", config.control.create);
    page.header("[worker]");
    page.optional("id", config.worker.id.as_deref());
    page.text("grace", &duration(config.worker.grace));
    page.header("[http]");
    page.text("listen", &config.http.listen.to_string());
    page.header("[log]");
    page.text("format", config.log.format.as_str());
    page.text("filter", &config.log.filter);
    page.header("[lease]");
    page.text("duration", &duration(config.lease.duration));
    page.text("checkpoint_interval", &duration(config.lease.checkpoint_interval));
    page.header("[heartbeat]");
    page.text("mode", config.heartbeat.mode.as_str());
    page.text("interval", &duration(config.heartbeat.interval));
    page.text("table", &config.heartbeat.table);
    page.plain("keys", config.heartbeat.keys);
    for replication in &config.replications {
        page.replication(replication);
    }
    page.0
}

/// A complete configuration with every key, its meaning and its default. Keys that have a default, or
/// may be absent, are commented out with `#` and no space after it.
pub fn example() -> String {
    let mut text = String::from(
        "# Dynamirror, every setting. Required settings are written; the others show their default, or an\n\
         # example, behind a `#`: remove it to change one. Unknown keys are refused.\n\
         #\n\
         # Each setting can also come from the environment: DYNAMIRROR__LEASE__DURATION=30s, and for elements\n\
         # of a list DYNAMIRROR__REPLICATIONS__0__SOURCE__REGION=eu-west-1.\n",
    );
    example_table(&mut text, &ROOT, "", "");
    text
}

/// The reference: one markdown table per table of the configuration.
pub fn reference() -> String {
    let mut text = String::new();
    reference_table(&mut text, &ROOT, "", "");
    text
}

/// A duration in the shortest form that is read back to the same value.
pub(super) fn duration(value: Duration) -> String {
    humantime::format_duration(value).to_string().replace(' ', "")
}

/// A size in the largest binary unit that is exact.
pub(super) fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// A start position the way it is written.
pub(super) fn start(value: Start) -> String {
    match value {
        Start::TrimHorizon => "trim_horizon".to_owned(),
        Start::Latest => "latest".to_owned(),
        Start::At { unix_ms } => {
            let nearest = if unix_ms < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
            jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(nearest).to_string()
        }
    }
}

/// TOML under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    fn header(&mut self, header: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.line(header);
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn plain(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(&format!("{key} = {value}"));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.plain(key, quoted(&mask_userinfo(value)));
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        self.text("region", &endpoint.region);
        self.optional("endpoint_url", endpoint.endpoint_url.as_deref());
        self.optional("profile", endpoint.profile.as_deref());
        self.optional("role_arn", endpoint.role_arn.as_deref());
        self.optional("external_id", endpoint.external_id.as_deref());
    }

    fn replication(&mut self, replication: &Replication) {
        self.header("[[replications]]");
        self.text("name", &replication.name);
        self.text("start", &start(replication.start));
        self.text("heartbeat", replication.heartbeat.as_str());
        self.optional("verify_every", replication.verify.every.map(duration).as_deref());
        self.plain("verify_read_units", replication.verify.read_units);
        self.header("[replications.source]");
        self.text("table", &replication.source.table);
        self.endpoint(&replication.source.endpoint);
        self.optional("streams_endpoint_url", replication.source.streams_endpoint_url.as_deref());
        self.header("[replications.poll]");
        self.text("active", &duration(replication.poll.active));
        self.text("idle", &duration(replication.poll.idle));
        self.text("discovery", &duration(replication.poll.discovery));
        for replica in &replication.replicas {
            self.replica(replica);
        }
    }

    fn replica(&mut self, replica: &Replica) {
        self.header("[[replications.replicas]]");
        self.text("name", &replica.name);
        self.text("table", &replica.table);
        self.endpoint(&replica.endpoint);
        self.text("buffer", &size(replica.buffer_bytes.get()));
        self.plain("batches_in_flight", replica.batches_in_flight);
        self.text("attempt_timeout", &duration(replica.attempt_timeout));
        self.text("guard", replica.guard.as_str());
        self.text("guard_attribute", &replica.guard_attribute);
        self.plain("park_limit", replica.park_limit);
        self.text("copy", replica.copy.mode.as_str());
        if let Some(units) = replica.copy.read_units {
            self.plain("copy_read_units", units);
        }
        self.plain("copy_consistent", replica.copy.consistent);
        self.text("copy_window", &duration(replica.copy.window));
        self.plain("copy_reconcile", replica.copy.reconcile);
        self.plain("create", replica.create);
        self.plain("schema_warm_throughput", replica.schema.warm_throughput);
        self.plain("schema_resource_policy", replica.schema.resource_policy);
        self.plain("schema_kinesis", replica.schema.kinesis);
        for key in &replica.schema.kms_keys {
            self.header("[[replications.replicas.schema_kms_keys]]");
            self.text("source", &key.source);
            self.text("replica", &key.replica);
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The default, or the example where there is none, as TOML.
fn shown(kind: &Kind, preset: &Preset) -> String {
    let text = match preset {
        Preset::Required(example) | Preset::Absent(example, _) => (*example).to_owned(),
        _ => preset.text().unwrap_or_default(),
    };
    match kind {
        Kind::Integer(_) | Kind::Flag => text,
        _ => quoted(&text),
    }
}

fn example_table(text: &mut String, table: &Table, path: &str, header: &str) {
    if !header.is_empty() {
        let _ = write!(text, "\n# {}\n{header}\n", sentence(table.doc));
    }
    for (index, entry) in table.entries.iter().enumerate() {
        let inner = join(path, entry.name);
        match &entry.shape {
            Shape::Value(kind, preset) => {
                if index > 0 {
                    text.push('\n');
                }
                example_value(text, entry, kind, preset);
            }
            Shape::Table(table) => example_table(text, table, &inner, &format!("[{inner}]")),
            Shape::List(table) => example_table(text, table, &inner, &format!("[[{inner}]]")),
        }
    }
}

fn example_value(text: &mut String, entry: &Entry, kind: &Kind, preset: &Preset) {
    for line in wrapped(&sentence(entry.doc), 100) {
        let _ = writeln!(text, "# {line}");
    }
    if let Preset::Absent(_, absence) = preset {
        let _ = writeln!(text, "# Default: {absence}.");
    }
    let mark = if matches!(preset, Preset::Required(_)) { "" } else { "#" };
    let _ = writeln!(text, "{mark}{} = {}", entry.name, shown(kind, preset));
}

fn reference_table(text: &mut String, table: &Table, path: &str, header: &str) {
    if !header.is_empty() {
        let _ = write!(text, "### `{header}`\n\n{}\n\n", sentence(table.doc));
        text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    }
    let mut inner_tables = Vec::new();
    for entry in table.entries {
        let inner = join(path, entry.name);
        match &entry.shape {
            Shape::Value(kind, preset) => {
                let default = match preset {
                    Preset::Required(_) => "**required**".to_owned(),
                    Preset::Absent(_, absence) => (*absence).to_owned(),
                    _ => format!("`{}`", shown(kind, preset)),
                };
                let _ =
                    writeln!(text, "| `{}` | {} | {default} | {} |", entry.name, kind.describe(), entry.doc);
            }
            Shape::Table(table) => inner_tables.push((table, inner.clone(), format!("[{inner}]"))),
            Shape::List(table) => inner_tables.push((table, inner.clone(), format!("[[{inner}]]"))),
        }
    }
    if !header.is_empty() {
        text.push('\n');
    }
    for (table, path, header) in inner_tables {
        reference_table(text, table, &path, &header);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A documentation fragment as a sentence.
fn sentence(fragment: &str) -> String {
    let mut chars = fragment.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("it starts with one line");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
