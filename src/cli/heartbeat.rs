//! The heartbeat tables that a configuration asks for: plain decisions, no I/O.
//!
//! ```text
//!   source endpoint                        replica endpoint
//!   dynamirror-heartbeat ── stream ──>     dynamirror-heartbeat.eu-west-1
//!   (one, written by the coordinator)      (one for each source endpoint, named after it)
//! ```
//!
//! The replica's table is named after its source, because a region can be both: under one name, two tables that follow
//! each other would send a heartbeat round for ever, and a replica in its source's own region would be its own source.

use std::time::Duration;

use crate::config::{Config, Endpoint, HeartbeatMode, Poll, Source};
use crate::supervisor::heartbeat::dedicated_name;

/// One heartbeat table and its replicas.
#[derive(Debug)]
pub(super) struct Dedicated<'a> {
    /// The replication's name.
    pub(super) name: String,
    /// One of the sources at the endpoint; only where it is counts.
    pub(super) source: &'a Source,
    /// How the streams there are polled.
    pub(super) poll: &'a Poll,
    /// The heartbeat table.
    pub(super) table: &'a str,
    /// One for each endpoint that replicas of sources there are at.
    pub(super) replicas: Vec<Replica<'a>>,
}

/// A replica of a heartbeat table.
#[derive(Debug)]
pub(super) struct Replica<'a> {
    /// Its name, that of its endpoint.
    pub(super) name: String,
    /// Where it is.
    pub(super) endpoint: &'a Endpoint,
    /// The longest attempt of any replica there.
    pub(super) attempt_timeout: Duration,
    /// The table.
    pub(super) table: String,
}

/// The heartbeat tables of `config`, in its order.
pub(super) fn dedicated(config: &Config) -> Vec<Dedicated<'_>> {
    let mut found: Vec<Dedicated<'_>> = Vec::new();
    let wanted = config.replications.iter().filter(|it| it.heartbeat == HeartbeatMode::Dedicated);
    for replication in wanted {
        let source = &replication.source;
        let name = dedicated_name(&place(&source.endpoint, source.streams_endpoint_url.as_deref()));
        let index = found.iter().position(|it| it.name == name).unwrap_or_else(|| {
            let (poll, table) = (&replication.poll, config.heartbeat.table.as_str());
            found.push(Dedicated { name, source, poll, table, replicas: Vec::new() });
            found.len() - 1
        });
        for replica in &replication.replicas {
            found[index].add(&replica.endpoint, replica.attempt_timeout);
        }
    }
    found
}

// === impl Dedicated ===

impl<'a> Dedicated<'a> {
    fn add(&mut self, endpoint: &'a Endpoint, attempt_timeout: Duration) {
        let name = place(endpoint, None);
        if let Some(known) = self.replicas.iter_mut().find(|known| known.name == name) {
            known.attempt_timeout = known.attempt_timeout.max(attempt_timeout);
            return;
        }
        let source = place(&self.source.endpoint, self.source.streams_endpoint_url.as_deref());
        let table = format!("{}.{source}", self.table);
        self.replicas.push(Replica { name, endpoint, attempt_timeout, table });
    }
}

/// A name for an endpoint, the same on every host and in every run: the region, and where more than the region tells it
/// from others, a digest of that.
fn place(endpoint: &Endpoint, streams_endpoint_url: Option<&str>) -> String {
    let Endpoint { region, endpoint_url, profile, role_arn, external_id } = endpoint;
    let more = [endpoint_url, profile, role_arn, external_id].map(Option::as_deref);
    let more: Vec<_> = more.into_iter().chain([streams_endpoint_url]).collect();
    if more.iter().all(Option::is_none) {
        return region.clone();
    }
    let text: Vec<_> = more.into_iter().map(Option::unwrap_or_default).collect();
    format!("{region}-{:08x}", digest(&text.join("\n")))
}

/// FNV-1a, which is defined once and for all, unlike the hashes of the standard library. It only has to tell the few
/// endpoints of one configuration apart.
fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn parsed(text: &str) -> Config {
        let file = config::File { name: "test.toml".to_owned(), text: text.to_owned() };
        config::parse(&[file], &[], &[]).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn replication(name: &str, source: &str, replicas: &[&str], more: &str) -> String {
        let mut text = format!(
            "[[replications]]\nname = \"{name}\"\n{more}\n[replications.source]\ntable = \"{name}\"\nregion = \"{source}\"\n"
        );
        for (number, region) in replicas.iter().enumerate() {
            text.push_str(&format!(
                "[[replications.replicas]]\nname = \"r{number}\"\ntable = \"{name}-copy-{number}\"\nregion = \"{region}\"\n"
            ));
        }
        text
    }

    #[test]
    fn every_source_endpoint_has_one_table_and_one_at_each_endpoint_of_its_replicas() {
        let config = parsed(&format!(
            "[control]\nregion = \"eu-west-1\"\n{}{}{}{}",
            replication("orders", "eu-west-1", &["us-east-1", "us-east-1"], ""),
            replication("users", "eu-west-1", &["ap-east-1"], ""),
            replication("back", "us-east-1", &["eu-west-1", "us-east-1"], ""),
            replication("quiet", "sa-east-1", &["eu-west-1"], "heartbeat = \"off\""),
        ));
        let found = dedicated(&config);
        let spelt: Vec<_> = found
            .iter()
            .map(|it| {
                let replicas = it.replicas.iter().map(|it| format!("{} {}", it.name, it.table));
                format!("{} {}: {}", it.name, it.table, replicas.collect::<Vec<_>>().join(", "))
            })
            .collect();
        assert_eq!(
            spelt,
            [
                "#heartbeat/eu-west-1 dynamirror-heartbeat: us-east-1 dynamirror-heartbeat.eu-west-1, \
                 ap-east-1 dynamirror-heartbeat.eu-west-1",
                "#heartbeat/us-east-1 dynamirror-heartbeat: eu-west-1 dynamirror-heartbeat.us-east-1, \
                 us-east-1 dynamirror-heartbeat.us-east-1",
            ]
        );
    }

    #[test]
    fn endpoints_of_one_region_are_told_apart_and_keep_their_names() {
        let plain = Endpoint {
            region: "eu-west-1".to_owned(),
            endpoint_url: None,
            profile: None,
            role_arn: None,
            external_id: None,
        };
        let profiled = Endpoint { profile: Some("x".to_owned()), ..plain.clone() };
        let roled = Endpoint { role_arn: Some("x".to_owned()), ..plain.clone() };
        assert_eq!(place(&plain, None), "eu-west-1");
        assert_eq!(place(&profiled, None), "eu-west-1-4fcff92f", "rows of the control table stand under it");
        assert_ne!(place(&profiled, None), place(&roled, None));
        assert_ne!(place(&plain, Some("x")), place(&plain, None));
    }
}
