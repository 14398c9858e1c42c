//! What could be read of a configuration, with holes where a setting is missing or refused.
//!
//! Relations between settings are checked on drafts, so that one slip hides as little as possible.

use super::settings::{
    Config, Control, Heartbeat, HeartbeatMode, Http, Lease, Log, Poll, Replica, Replication, Source, Start,
    Verify, Worker,
};

/// What could be read of a configuration.
#[derive(Debug)]
pub(super) struct Draft {
    pub control: Option<Control>,
    pub worker: Option<Worker>,
    pub http: Option<Http>,
    pub log: Option<Log>,
    pub lease: Option<Lease>,
    pub heartbeat: Option<Heartbeat>,
    pub replications: Vec<ReplicationDraft>,
}

/// What could be read of a replication.
#[derive(Debug)]
pub(super) struct ReplicationDraft {
    pub name: Option<String>,
    pub start: Option<Start>,
    /// Where it is not written, the mode of all.
    pub heartbeat: Option<Option<HeartbeatMode>>,
    pub verify: Option<Verify>,
    pub source: Option<Source>,
    pub poll: Option<Poll>,
    pub replicas: Vec<ReplicaDraft>,
}

/// What could be read of a replica; its name apart, because names are compared even among broken ones.
#[derive(Debug)]
pub(super) struct ReplicaDraft {
    pub name: Option<String>,
    pub replica: Option<Replica>,
}

impl Draft {
    /// The configuration, if all of it could be read.
    pub(super) fn finish(self) -> Option<Config> {
        let heartbeat = self.heartbeat?;
        let mode = heartbeat.mode;
        Some(Config {
            control: self.control?,
            worker: self.worker?,
            http: self.http?,
            log: self.log?,
            lease: self.lease?,
            heartbeat,
            replications: self
                .replications
                .into_iter()
                .map(|draft| draft.finish(mode))
                .collect::<Option<_>>()?,
        })
    }
}

impl ReplicationDraft {
    fn finish(self, mode: HeartbeatMode) -> Option<Replication> {
        Some(Replication {
            name: self.name?,
            start: self.start?,
            heartbeat: self.heartbeat?.unwrap_or(mode),
            source: self.source?,
            poll: self.poll?,
            replicas: self.replicas.into_iter().map(|draft| draft.replica).collect::<Option<_>>()?,
            verify: self.verify?,
        })
    }
}
