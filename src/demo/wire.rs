//! A client for one region of the emulator: what the load generator writes with, and tables are made with. It is not
//! the daemon's, so that the two cannot be wrong in the same way.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

/// A region's address and connections to it.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    client: legacy::Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
    authorization: String,
}

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be written.
    #[error("address {operation}")]
    Request {
        /// The operation.
        operation: &'static str,
        /// Why.
        source: hyper::http::Error,
    },
    /// No answer came.
    #[error("send {operation}")]
    Send {
        /// The operation.
        operation: &'static str,
        /// Why.
        source: legacy::Error,
    },
    /// The answer broke off.
    #[error("read the answer to {operation}")]
    Answer {
        /// The operation.
        operation: &'static str,
        /// Why.
        source: hyper::Error,
    },
    /// It was refused, or a part of it was.
    #[error("do {operation}: {status}: {answer}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// What was answered, shortened.
        answer: String,
    },
}

/// How much of an answer is shown.
const SHOWN_BYTES: usize = 400;

// === impl Wire ===

impl Wire {
    /// For the region `region` that listens at `endpoint`.
    pub(super) fn new(endpoint: &str, region: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: legacy::Client::builder(TokioExecutor::new()).build(connector),
            endpoint: endpoint.to_owned(),
            // Nobody checks the signature; only its form counts.
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential=demo/20260101/{region}/dynamodb/aws4_request, SignedHeaders=host, \
                 Signature=0"
            ),
        }
    }

    /// Makes a request and gives the answer's body.
    pub(super) async fn call(&self, operation: &'static str, body: Vec<u8>) -> Result<Bytes, Error> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.endpoint)
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header("x-amz-date", "20260101T000000Z")
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/x-amz-json-1.0")
            .body(Full::from(body))
            .map_err(|source| Error::Request { operation, source })?;
        let answer =
            self.client.request(request).await.map_err(|source| Error::Send { operation, source })?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|source| Error::Answer { operation, source })?
            .to_bytes();
        if status.is_success() && !is_partial(&body) {
            return Ok(body);
        }
        Err(Error::Refused {
            operation,
            status: status.as_u16(),
            answer: String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).into_owned(),
        })
    }
}

/// Whether a batch came back with items that were not written.
fn is_partial(body: &[u8]) -> bool {
    let start = b"\"UnprocessedItems\":{";
    memchr::memmem::find(body, start).is_some_and(|at| body.get(at + start.len()) != Some(&b'}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_was_cut_is_told_from_a_whole_one() {
        assert!(is_partial(br#"{"UnprocessedItems":{"orders":[{}]}}"#));
        assert!(!is_partial(br#"{"UnprocessedItems":{}}"#));
        assert!(!is_partial(b"{}"));
    }
}
