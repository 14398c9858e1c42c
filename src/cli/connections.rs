//! Clients for the endpoints of a configuration. Tables behind the same endpoint share one client, and so its
//! connections and the credentials that it has cached.

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::dynamo::{self, Call, Client};
use crate::telemetry::{Calls, Metrics, Outcome};

/// The longest a page of a stream or of rows may take. They take milliseconds; a minute without a successful poll
/// makes the worker not ready, and several attempts must fit into it.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest a call may take whose failure a person waits for.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the calls of a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// A single write.
    pub(super) write: Duration,
    /// Anything else.
    pub(super) read: Duration,
}

/// Makes clients, and keeps them.
pub(super) struct Connections {
    session_name: String,
    metrics: Option<Arc<Metrics>>,
    known: Vec<(config::Endpoint, Limits, Client)>,
}

// === impl Limits ===

impl Limits {
    /// For a command: it is better to fail soon than to keep a person waiting.
    pub(super) const COMMAND: Self = Self { write: COMMAND_TIMEOUT, read: COMMAND_TIMEOUT };

    /// For the daemon, with the longest time of one write.
    pub(super) const fn daemon(write: Duration) -> Self {
        Self { write, read: READ_TIMEOUT }
    }
}

// === impl Connections ===

impl Connections {
    /// None yet. Sessions of assumed roles get this name, and calls are counted in `metrics`.
    pub(super) fn new(session_name: String, metrics: Option<Arc<Metrics>>) -> Self {
        Self { session_name, metrics, known: Vec::new() }
    }

    /// The client for `endpoint`. Makes no request: what is wrong with it shows in the first call.
    pub(super) async fn client(&mut self, endpoint: &config::Endpoint, limits: Limits) -> Client {
        let same = |(known, its_limits, _): &&(config::Endpoint, Limits, Client)| {
            known == endpoint && *its_limits == limits
        };
        if let Some((_, _, client)) = self.known.iter().find(same) {
            return client.clone();
        }
        let mut client = dynamo::connect(&target(endpoint, limits, &self.session_name)).await;
        if let Some(metrics) = &self.metrics {
            client = client.observed(counting(metrics, &endpoint.region));
        }
        self.known.push((endpoint.clone(), limits, client.clone()));
        client
    }

    /// The client that reads the source's stream: that of its table, unless streams have another address.
    pub(super) async fn streams_client(&mut self, source: &config::Source, limits: Limits) -> Client {
        let mut endpoint = source.endpoint.clone();
        if let Some(url) = &source.streams_endpoint_url {
            endpoint.endpoint_url = Some(url.clone());
        }
        self.client(&endpoint, limits).await
    }
}

fn target(endpoint: &config::Endpoint, limits: Limits, session_name: &str) -> dynamo::Endpoint {
    let mut target = dynamo::Endpoint::new(&endpoint.region);
    target.endpoint_url.clone_from(&endpoint.endpoint_url);
    target.profile.clone_from(&endpoint.profile);
    target.role_arn.clone_from(&endpoint.role_arn);
    target.external_id.clone_from(&endpoint.external_id);
    session_name.clone_into(&mut target.session_name);
    target.attempt_timeout = limits.write;
    target.read_timeout = limits.read;
    target
}

/// Counts every call.
fn counting(metrics: &Metrics, region: &str) -> dynamo::Observer {
    let of = |service: &'static str| metrics.calls(service, region);
    let [streams, tables, scaling]: [Calls; 3] = ["streams", "dynamodb", "application-autoscaling"].map(of);
    Arc::new(move |call: Call| {
        let calls = match call.service {
            "streams" => &streams,
            "application-autoscaling" => &scaling,
            _ => &tables,
        };
        let outcome = call.fault.map_or(Outcome::Ok, Outcome::from);
        calls.record(call.operation, outcome, call.elapsed);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::dynamo::Tables;
    use crate::fault::Fault;

    fn endpoint() -> config::Endpoint {
        config::Endpoint {
            region: "eu-west-1".to_owned(),
            // A port that nobody listens on: it is reserved.
            endpoint_url: Some("http://127.0.0.1:1".to_owned()),
            profile: None,
            role_arn: None,
            external_id: None,
        }
    }

    #[test]
    fn every_setting_of_an_endpoint_arrives() {
        let configured = config::Endpoint {
            profile: Some("p".to_owned()),
            role_arn: Some("arn:aws:iam::111122223333:role/r".to_owned()),
            external_id: Some("0123".to_owned()),
            ..endpoint()
        };
        let limits = Limits::daemon(Duration::from_millis(1_500));
        let found = target(&configured, limits, "session");
        assert_eq!(found.region, "eu-west-1");
        assert_eq!(found.endpoint_url.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(found.profile.as_deref(), Some("p"));
        assert_eq!(found.role_arn.as_deref(), Some("arn:aws:iam::111122223333:role/r"));
        assert_eq!(found.external_id.as_deref(), Some("0123"));
        assert_eq!(found.session_name, "session");
        assert_eq!(found.attempt_timeout, Duration::from_millis(1_500));
        assert_eq!(found.read_timeout, READ_TIMEOUT);
        assert!(found.access_key.is_none());
    }

    #[tokio::test]
    async fn an_endpoint_has_one_client_and_its_calls_are_counted() {
        let metrics = Arc::new(Metrics::new("w", "control", Clock::System).expect("metrics"));
        let mut connections = Connections::new("session".to_owned(), Some(Arc::clone(&metrics)));
        let limits = Limits::daemon(Duration::from_secs(1));
        let client = connections.client(&endpoint(), limits).await;
        connections.client(&endpoint(), limits).await;
        assert_eq!(connections.known.len(), 1);
        connections.client(&endpoint(), Limits::COMMAND).await;
        assert_eq!(connections.known.len(), 2);
        let error = client.tables().describe("Orders").await.expect_err("nobody is there");
        assert_ne!(error.fault, Fault::Invalid);
        let text = metrics.render().expect("rendered");
        let counted = text.lines().any(|line| {
            line.starts_with("dynamirror_aws_requests_total")
                && line.contains("DescribeTable")
                && line.ends_with(" 1")
        });
        assert!(counted, "{text}");
    }
}
