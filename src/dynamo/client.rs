//! The SDK clients of one endpoint, set up for a replicator.
//!
//! The SDK's own retries are off: a retry that a client hides can land after a newer write. So is its
//! protection against stalled streams, because every call has a deadline. Both services share the credentials
//! and their cache.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    AppName, Credentials, Region, SharedCredentialsProvider, StalledStreamProtectionConfig,
};

use super::call::{Caller, Observer};
use super::control_plane::SdkSchemas;
use super::raw::Hook;
use super::streams::SdkStreams;
use super::tables::SdkTables;

/// Where a client connects to, as whom, and how long it waits.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The region, such as `eu-central-1` or `cn-north-1`.
    pub region: String,
    /// An endpoint instead of the region's own, for both services; plain `http` works.
    pub endpoint_url: Option<String>,
    /// A profile of the shared configuration files; else the default chain decides.
    pub profile: Option<String>,
    /// Fixed keys instead of the default chain, for servers that do not check them.
    pub access_key: Option<AccessKey>,
    /// A role to assume with these credentials.
    pub role_arn: Option<String>,
    /// The external ID that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// The name of the assumed role's session, which the account's audit log shows.
    pub session_name: String,
    /// How long one connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one write may take, from the call to the whole answer. It is never retried here.
    pub attempt_timeout: Duration,
    /// How long any other call may take.
    pub read_timeout: Duration,
}

/// A fixed pair of keys.
#[derive(Clone)]
pub struct AccessKey {
    /// The key's ID.
    pub id: String,
    /// The secret.
    pub secret: String,
}

/// The clients of one endpoint. Cloning shares connections and credentials.
///
/// A connection is served by the runtime it was first used on; so use one client per runtime.
#[derive(Debug, Clone)]
pub struct Client {
    streams: aws_sdk_dynamodbstreams::Client,
    tables: aws_sdk_dynamodb::Client,
    scaling: aws_sdk_applicationautoscaling::Client,
    limits: Limits,
    streams_address: Arc<str>,
    tables_address: Arc<str>,
    scaling_address: Arc<str>,
    observer: Option<ObserverSlot>,
}

/// How long calls may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) write: Duration,
    pub(super) read: Duration,
}

#[derive(Clone)]
struct ObserverSlot(Observer);

/// The behaviour of the SDK this was built and tested with.
pub(super) fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// Sets up the clients of `endpoint`. No request is made; what is wrong with the credentials or the endpoint
/// shows in the first call.
pub async fn connect(endpoint: &Endpoint) -> Client {
    over(&shared_config(endpoint).await, endpoint)
}

/// Sets up the clients over a configuration that holds the region and the credentials.
pub(super) fn over(shared: &SdkConfig, endpoint: &Endpoint) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(endpoint.connect_timeout)
        // The deadline of a call is kept by `Caller`, once for all.
        .disable_read_timeout()
        .disable_operation_timeout()
        .disable_operation_attempt_timeout()
        .build();
    let mut streams = aws_sdk_dynamodbstreams::config::Builder::from(shared)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.clone())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .interceptor(Hook::new());
    let mut tables = aws_sdk_dynamodb::config::Builder::from(shared)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.clone())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .interceptor(Hook::new());
    let mut scaling = aws_sdk_applicationautoscaling::config::Builder::from(shared)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .interceptor(Hook::new());
    if let Some(url) = &endpoint.endpoint_url {
        streams = streams.endpoint_url(url);
        tables = tables.endpoint_url(url);
        if !is_of_one_service(url) {
            scaling = scaling.endpoint_url(url);
        }
    }
    Client {
        streams: aws_sdk_dynamodbstreams::Client::from_conf(streams.build()),
        tables: aws_sdk_dynamodb::Client::from_conf(tables.build()),
        scaling: aws_sdk_applicationautoscaling::Client::from_conf(scaling.build()),
        limits: Limits { write: endpoint.attempt_timeout, read: endpoint.read_timeout },
        streams_address: endpoint.address("streams.dynamodb"),
        tables_address: endpoint.address("dynamodb"),
        scaling_address: endpoint.address("application-autoscaling"),
        observer: None,
    }
}

/// Whether this is an address of AWS, which then belongs to DynamoDB alone; other servers have all services at one.
pub(super) fn is_of_one_service(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") || host.ends_with(".api.aws")
}

async fn shared_config(endpoint: &Endpoint) -> SdkConfig {
    let mut loader = aws_config::defaults(behavior()).region(Region::new(endpoint.region.clone()));
    if let Some(profile) = &endpoint.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(key) = &endpoint.access_key {
        let keys = Credentials::new(&key.id, &key.secret, None, None, "configuration");
        loader = loader.credentials_provider(keys);
    }
    if let Ok(name) = AppName::new(concat!("dynamirror-", env!("CARGO_PKG_VERSION"))) {
        loader = loader.app_name(name);
    }
    let shared = loader.load().await;
    let Some(role) = &endpoint.role_arn else {
        return shared;
    };
    let mut provider =
        AssumeRoleProvider::builder(role).session_name(&endpoint.session_name).configure(&shared);
    if let Some(id) = &endpoint.external_id {
        provider = provider.external_id(id);
    }
    let provider = SharedCredentialsProvider::new(provider.build().await);
    shared.into_builder().credentials_provider(provider).build()
}

// === impl Endpoint ===

impl Endpoint {
    /// The region's own endpoint with the default credentials and time-outs for a connection between regions.
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            endpoint_url: None,
            profile: None,
            access_key: None,
            role_arn: None,
            external_id: None,
            session_name: "dynamirror".to_owned(),
            // One lost packet costs a second; the farthest regions are 0.4 s apart.
            connect_timeout: Duration::from_secs(3),
            // A batch of 16 MB between continents takes a few seconds.
            attempt_timeout: Duration::from_secs(10),
            // As above, and a page may be slow to find at the server.
            read_timeout: Duration::from_secs(20),
        }
    }

    fn address(&self, host: &str) -> Arc<str> {
        match &self.endpoint_url {
            Some(url) => url.as_str().into(),
            None => format!("{host} in {}", self.region).into(),
        }
    }
}

// === impl Client ===

impl Client {
    /// Tells `observer` of every call from now on.
    #[must_use]
    pub fn observed(mut self, observer: Observer) -> Self {
        self.observer = Some(ObserverSlot(observer));
        self
    }

    /// Reads streams.
    pub fn streams(&self) -> SdkStreams {
        let caller = self.caller("streams", &self.streams_address);
        SdkStreams::new(self.streams.clone(), caller, self.limits)
    }

    /// Reads and writes tables.
    pub fn tables(&self) -> SdkTables {
        let caller = self.caller("dynamodb", &self.tables_address);
        SdkTables::new(self.tables.clone(), caller, self.limits)
    }

    /// Asks about and changes tables themselves.
    pub fn schemas(&self) -> SdkSchemas {
        SdkSchemas {
            tables: self.tables.clone(),
            scaling: self.scaling.clone(),
            tables_caller: self.caller("dynamodb", &self.tables_address),
            scaling_caller: self.caller("application-autoscaling", &self.scaling_address),
            limits: self.limits,
        }
    }

    fn caller(&self, service: &'static str, address: &Arc<str>) -> Caller {
        Caller {
            service,
            address: address.clone(),
            observer: self.observer.as_ref().map(|slot| slot.0.clone()),
        }
    }
}

impl fmt::Debug for ObserverSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

// === impl AccessKey ===

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}
