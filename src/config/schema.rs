//! The tree of keys: what may be written, of which kind, with which default, and what it means.
//!
//! One table serves the strict check of files and variables, the resolution of values, the commented
//! example and the reference, so that none of them can know a key the others do not.

use super::kind::{Kind, Preset};
use super::settings::{
    Control, CopyMode, FirstCopy, Guard, Heartbeat, HeartbeatMode, Http, Lease, Log, LogFormat, Poll,
    Replica, Verify, Worker,
};

/// A table of the configuration.
#[derive(Debug)]
pub(super) struct Table {
    /// What the table is about, one sentence.
    pub doc: &'static str,
    /// Its keys, values before tables.
    pub entries: &'static [Entry],
}

/// One key.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: &'static str,
    /// Meaning, one sentence; for a table it stands on the table.
    pub doc: &'static str,
    pub shape: Shape,
}

/// What stands under a key.
#[derive(Debug)]
pub(super) enum Shape {
    Value(Kind, Preset),
    Table(&'static Table),
    List(&'static Table),
}

impl Table {
    /// The key's entry.
    pub(super) fn entry(&self, name: &str) -> Option<&'static Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Kind and preset of a value key. The callers name keys of this file.
    pub(super) fn value(&self, name: &str) -> (&'static Kind, &'static Preset) {
        match self.entry(name).map(|entry| &entry.shape) {
            Some(Shape::Value(kind, preset)) => (kind, preset),
            _ => unreachable!("`{name}` is not a value of the schema"),
        }
    }

    /// The table under a key, also that of a list's elements. The callers name keys of this file.
    pub(super) fn table(&self, name: &str) -> &'static Table {
        match self.entry(name).map(|entry| &entry.shape) {
            Some(Shape::Table(table) | Shape::List(table)) => table,
            _ => unreachable!("`{name}` is not a table of the schema"),
        }
    }

    /// All keys, for "allowed:" lines.
    pub(super) fn allowed(&self) -> String {
        self.entries.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
    }
}

const fn value(name: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Entry {
    Entry { name, doc, shape: Shape::Value(kind, preset) }
}

const fn table(name: &'static str, table: &'static Table) -> Entry {
    Entry { name, doc: table.doc, shape: Shape::Table(table) }
}

const fn list(name: &'static str, table: &'static Table) -> Entry {
    Entry { name, doc: table.doc, shape: Shape::List(table) }
}

const REGION: Entry =
    value("region", Kind::Region, Preset::Required("eu-west-1"), "AWS region; requests are signed for it");
const ENDPOINT_URL: Entry = value(
    "endpoint_url",
    Kind::Url,
    Preset::Absent("https://dynamodb.example.internal:8000", "the region's public endpoint"),
    "address to use instead of the region's public endpoint (VPC endpoint, local server)",
);
const PROFILE: Entry = value(
    "profile",
    Kind::Text,
    Preset::Absent("replication", "the default credential chain"),
    "profile of the shared AWS configuration files to take credentials from",
);
const ROLE_ARN: Entry = value(
    "role_arn",
    Kind::RoleArn,
    Preset::Absent("arn:aws:iam::123456789012:role/dynamirror", "no role"),
    "role to assume, usually one of the account that owns the table",
);
const EXTERNAL_ID: Entry = value(
    "external_id",
    Kind::ExternalId,
    Preset::Absent("012345678901", "none"),
    "external id the role's trust policy asks for; only with role_arn",
);

/// The whole configuration.
pub(super) static ROOT: Table = Table {
    doc: "Dynamirror configuration",
    entries: &[
        table("control", &CONTROL),
        table("worker", &WORKER),
        table("http", &HTTP),
        table("log", &LOG),
        table("lease", &LEASE),
        table("heartbeat", &HEARTBEAT),
        list("replications", &REPLICATION),
    ],
};

static CONTROL: Table = Table {
    doc: "the DynamoDB table that keeps leases and checkpoints",
    entries: &[
        value(
            "table",
            Kind::TableName,
            Preset::Text(Control::DEFAULT_TABLE),
            "name or ARN of the control table",
        ),
        REGION,
        value(
            "create",
            Kind::Flag,
            Preset::Flag(Control::DEFAULT_CREATE),
            "create the table at start when it is missing; otherwise `dynamirror init` does",
        ),
        ENDPOINT_URL,
        PROFILE,
        ROLE_ARN,
        EXTERNAL_ID,
    ],
};

static WORKER: Table = Table {
    doc: "this process",
    entries: &[
        value(
            "id",
            Kind::Name,
            Preset::Absent("worker-1", "host name and a random suffix"),
            "name in the control table; give every worker its own, so that `status` tells them apart",
        ),
        value(
            "grace",
            Kind::Duration(Worker::GRACE),
            Preset::Duration(Worker::DEFAULT_GRACE),
            "longest drain after SIGTERM; keep it below the service manager's kill time-out",
        ),
    ],
};

static HTTP: Table = Table {
    doc: "metrics, probes and status",
    entries: &[value(
        "listen",
        Kind::Listen,
        Preset::Listen(Http::DEFAULT_LISTEN),
        "address and port; in a container usually 0.0.0.0:9464",
    )],
};

static LOG: Table = Table {
    doc: "what is logged, to standard error",
    entries: &[
        value(
            "format",
            Kind::LogFormat,
            Preset::Text(LogFormat::Auto.as_str()),
            "auto is text on a terminal and JSON otherwise",
        ),
        value(
            "filter",
            Kind::Filter,
            Preset::Text(Log::DEFAULT_FILTER),
            "level, or levels per module: info,dynamirror::lease=debug",
        ),
    ],
};

static LEASE: Table = Table {
    doc: "ownership of shards among workers",
    entries: &[
        value(
            "duration",
            Kind::Duration(Lease::DURATION),
            Preset::Duration(Lease::DEFAULT_DURATION),
            "a dead worker's shards move after this long",
        ),
        value(
            "checkpoint_interval",
            Kind::Duration(Lease::CHECKPOINT_INTERVAL),
            Preset::Duration(Lease::DEFAULT_CHECKPOINT_INTERVAL),
            "how often progress is saved, which also renews the lease; at most duration / 3",
        ),
    ],
};

static HEARTBEAT: Table = Table {
    doc: "items that one worker writes to sources and looks for in replicas, which proves the lag of an idle source",
    entries: &[
        value(
            "mode",
            Kind::HeartbeatMode,
            Preset::Text(HeartbeatMode::Dedicated.as_str()),
            "off, dedicated (to tables of their own, which `dynamirror init` creates; none where they are missing), or in-table (to the source tables themselves: intrusive, their readers see the items)",
        ),
        value(
            "interval",
            Kind::Duration(Heartbeat::INTERVAL),
            Preset::Duration(Heartbeat::DEFAULT_INTERVAL),
            "time between two; one that is not in a replica after five of these is lost",
        ),
        value(
            "table",
            Kind::TableName,
            Preset::Text(Heartbeat::DEFAULT_TABLE),
            "name of the dedicated table at each source endpoint; at replicas the source's region follows it after a dot; give each fleet its own",
        ),
        value(
            "keys",
            Kind::Integer(Heartbeat::KEYS),
            Preset::Integer(Heartbeat::DEFAULT_KEYS),
            "items that in-table writes to each table, so that they reach several of its shards",
        ),
    ],
};

static REPLICATION: Table = Table {
    doc: "one source table and the replicas that follow it; repeat for every source",
    entries: &[
        value(
            "name",
            Kind::Name,
            Preset::Required("orders"),
            "unique name; renaming it later starts from scratch",
        ),
        value(
            "start",
            Kind::Start,
            Preset::Text("trim_horizon"),
            "where reading begins without a checkpoint: trim_horizon (oldest), latest, or an RFC 3339 time",
        ),
        value(
            "heartbeat",
            Kind::HeartbeatMode,
            Preset::Absent(HeartbeatMode::InTable.as_str(), "`heartbeat.mode`"),
            "where heartbeats of this source are written, instead of heartbeat.mode",
        ),
        value(
            "verify_every",
            Kind::Duration(Verify::EVERY),
            Preset::Absent("30days", "never"),
            "compare all items of source and replicas once in this time, again and again; the coordinator does",
        ),
        value(
            "verify_read_units",
            Kind::Integer(Verify::READ_UNITS),
            Preset::Integer(Verify::DEFAULT_READ_UNITS),
            "read capacity units per second that verify_every may take of each table",
        ),
        table("source", &SOURCE),
        table("poll", &POLL),
        list("replicas", &REPLICA),
    ],
};

static SOURCE: Table = Table {
    doc: "the table whose changes are read; its stream must be on",
    entries: &[
        value("table", Kind::TableName, Preset::Required("Orders"), "name or ARN of the source table"),
        REGION,
        ENDPOINT_URL,
        value(
            "streams_endpoint_url",
            Kind::Url,
            Preset::Absent("https://streams.example.internal:8000", "as endpoint_url"),
            "address of DynamoDB Streams where it is not that of endpoint_url",
        ),
        PROFILE,
        ROLE_ARN,
        EXTERNAL_ID,
    ],
};

static POLL: Table = Table {
    doc: "how often the stream is asked; a shard that is behind is read without a pause",
    entries: &[
        value(
            "active",
            Kind::Duration(Poll::ACTIVE),
            Preset::Duration(Poll::DEFAULT_ACTIVE),
            "pause between polls of a shard that had records lately",
        ),
        value(
            "idle",
            Kind::Duration(Poll::IDLE),
            Preset::Duration(Poll::DEFAULT_IDLE),
            "slowest poll of an idle shard; every poll is a billed request",
        ),
        value(
            "discovery",
            Kind::Duration(Poll::DISCOVERY),
            Preset::Duration(Poll::DEFAULT_DISCOVERY),
            "pause between full listings of the shards",
        ),
    ],
};

static REPLICA: Table = Table {
    doc: "a table that is written; repeat for every replica",
    entries: &[
        value("name", Kind::Name, Preset::Required("us"), "unique within the replication; a metric label"),
        value(
            "table",
            Kind::TableName,
            Preset::Absent("Orders", "the source's table name"),
            "name or ARN of the replica table",
        ),
        value(
            "region",
            Kind::Region,
            Preset::Required("us-east-1"),
            "AWS region; requests are signed for it",
        ),
        ENDPOINT_URL,
        PROFILE,
        ROLE_ARN,
        EXTERNAL_ID,
        value(
            "buffer",
            Kind::Size(Replica::BUFFER_BYTES),
            Preset::Size(Replica::DEFAULT_BUFFER_BYTES),
            "memory that changes waiting for this replica may hold",
        ),
        value(
            "batches_in_flight",
            Kind::Integer(Replica::BATCHES_IN_FLIGHT),
            Preset::Integer(Replica::DEFAULT_BATCHES_IN_FLIGHT),
            "batch requests under way at the same time; under a guard each is up to 25 requests, with as many connections",
        ),
        value(
            "attempt_timeout",
            Kind::Duration(Replica::ATTEMPT_TIMEOUT),
            Preset::Duration(Replica::DEFAULT_ATTEMPT_TIMEOUT),
            "longest one write attempt may take; lease.duration must exceed twice this plus lease.checkpoint_interval",
        ),
        value(
            "guard",
            Kind::Guard,
            Preset::Text(Guard::None.as_str()),
            "sequence lets no replay replace a newer state by an older one: each write is a request of its own, and each item carries a mark",
        ),
        value(
            "guard_attribute",
            Kind::Attribute,
            Preset::Text(Replica::DEFAULT_GUARD_ATTRIBUTE),
            "attribute of the replica's items that holds the mark of a guard; one of this name at the source is not copied",
        ),
        value(
            "park_limit",
            Kind::Integer(Replica::PARK_LIMIT),
            Preset::Integer(Replica::DEFAULT_PARK_LIMIT),
            "more refused keys than this stall the replica instead of being parked",
        ),
        value(
            "copy",
            Kind::CopyMode,
            Preset::Text(CopyMode::Off.as_str()),
            "auto copies what the source holds when the replica is begun with for the first time; off leaves that to `dynamirror copy`",
        ),
        value(
            "copy_read_units",
            Kind::Integer(FirstCopy::READ_UNITS),
            Preset::Absent(
                "1000",
                "half of the source's provisioned or maximum reads; without these, no limit",
            ),
            "read units per second of the source that a copy may use",
        ),
        value(
            "copy_consistent",
            Kind::Flag,
            Preset::Flag(FirstCopy::DEFAULT_CONSISTENT),
            "strongly consistent reads, which cost twice as much; otherwise a copy waits for copy_window first, and after each restart",
        ),
        value(
            "copy_window",
            Kind::Duration(FirstCopy::WINDOW),
            Preset::Duration(FirstCopy::DEFAULT_WINDOW),
            "by how much reads may be behind that are not strongly consistent",
        ),
        value(
            "copy_reconcile",
            Kind::Flag,
            Preset::Flag(FirstCopy::DEFAULT_RECONCILE),
            "copy to a replica that holds items already: they are replaced, and those that the source does not have are deleted",
        ),
        value(
            "create",
            Kind::Flag,
            Preset::Flag(Replica::DEFAULT_CREATE),
            "create the table like its source at start when it is missing; otherwise `dynamirror schema apply` does",
        ),
        value(
            "schema_warm_throughput",
            Kind::Flag,
            Preset::Flag(false),
            "whether a table that is made like its source gets its warm throughput, which is paid for",
        ),
        value(
            "schema_resource_policy",
            Kind::Flag,
            Preset::Flag(false),
            "whether it gets the policies of the source and its stream, with its own ARNs in them; they give access",
        ),
        value(
            "schema_kinesis",
            Kind::Flag,
            Preset::Flag(false),
            "whether its changes go to Kinesis streams of the same names in its own account and region",
        ),
        list("schema_kms_keys", &KMS_KEY),
    ],
};

static KMS_KEY: Table = Table {
    doc: "an encryption key of the source and the replica's instead; without one it is the replica's own aws/dynamodb",
    entries: &[
        value(
            "source",
            Kind::Text,
            Preset::Required("arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"),
            "ARN of the source's key",
        ),
        value(
            "replica",
            Kind::Text,
            Preset::Required("arn:aws:kms:us-east-1:123456789012:key/66666666-7777-8888-9999-000000000000"),
            "ARN, ID or alias of the key in the replica's account and region",
        ),
    ],
};
