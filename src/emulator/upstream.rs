//! The server behind the emulator: requests passed through as they came, and the emulator's own few.

use super::reply::Reply;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, Uri, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;

/// A pooled connection to one server.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    origin: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("address the server behind the emulator")]
    Address(#[source] hyper::http::Error),
    #[error("reach the server behind the emulator")]
    Connect(#[source] hyper_util::client::legacy::Error),
    #[error("read the answer of the server behind the emulator")]
    Body(#[source] hyper::Error),
    #[error("get `{operation}` done: status {status}, {code}")]
    Refused { operation: &'static str, status: u16, code: String },
}

/// The code in an error body, whatever namespace precedes it.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(rename = "__type", default)]
    code: String,
}

/// Headers that belong to one connection only (RFC 9110, section 7.6.1), and the length, which follows the body.
const HOP_BY_HOP: [header::HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
];

impl Upstream {
    /// `origin` is scheme and authority, for example `http://127.0.0.1:8000`.
    pub(super) fn new(origin: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, origin: origin.trim_end_matches('/').to_owned() }
    }

    /// Sends a request on as it came, signature and host included, and gives the answer as it came.
    pub(super) async fn forward(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, Error> {
        let uri = format!("{}{path}", self.origin).parse::<Uri>();
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.map_err(|error| Error::Address(error.into()))?;
        *request.headers_mut() = headers;
        let response = self.client.request(request).await.map_err(Error::Connect)?;
        let (mut head, body) = response.into_parts();
        let body = body.collect().await.map_err(Error::Body)?.to_bytes();
        for name in &HOP_BY_HOP {
            head.headers.remove(name);
        }
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// Makes a request of the emulator's own, in the name of `identity` (see [`identity`]).
    pub(super) async fn call(
        &self,
        prefix: &'static str,
        operation: &'static str,
        identity: &HeaderMap,
        body: String,
    ) -> Result<Bytes, Error> {
        let mut headers = identity.clone();
        let target = header::HeaderValue::from_str(&format!("{prefix}.{operation}"));
        headers.insert("x-amz-target", target.expect("a prefix and an operation are plain words"));
        headers.insert(header::CONTENT_TYPE, super::reply::CONTENT_TYPE);
        let reply = self.forward(Method::POST, "/", headers, body.into()).await?;
        if reply.status.is_success() {
            return Ok(reply.body);
        }
        let refusal: Refusal = serde_json::from_slice(&reply.body).unwrap_or_default();
        let code = refusal.code.rsplit('#').next().unwrap_or_default().to_owned();
        Err(Error::Refused { operation, status: reply.status.as_u16(), code })
    }
}

/// The headers of a client's request that say who asks. Some servers keep a separate database for each access
/// key and region, so the emulator's own requests about a table go out in the name of the client that named it.
pub(super) fn identity(headers: &HeaderMap) -> Option<HeaderMap> {
    let mut identity = HeaderMap::new();
    for name in ["authorization", "x-amz-date", "x-amz-security-token"] {
        if let Some(value) = headers.get(name) {
            identity.insert(name, value.clone());
        }
    }
    identity.contains_key("authorization").then_some(identity)
}

/// An identity for use before any client has spoken. No server here checks the signature.
pub(super) fn anonymous(region: &str) -> HeaderMap {
    let mut identity = HeaderMap::new();
    let credential = format!(
        "AWS4-HMAC-SHA256 Credential=emulator/20260101/{region}/dynamodb/aws4_request, SignedHeaders=host, Signature=0"
    );
    if let Ok(value) = credential.parse() {
        identity.insert("authorization", value);
    }
    identity.insert("x-amz-date", header::HeaderValue::from_static("20260101T000000Z"));
    identity
}
