//! Answers to clients: the service's error bodies, and a body that can break off half-way.

use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{self, HeaderName, HeaderValue},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-crc32");

/// A whole answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// A 200 with a JSON body.
    pub(super) fn json(body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
        Self { status: StatusCode::OK, headers, body: body.into() }
    }

    /// A refusal of the client's request: 400 with the exception's name and a message.
    pub(super) fn refusal(code: &str, message: &str) -> Self {
        Self::failure(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn failure(status: StatusCode, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "__type": qualified(code), "message": message });
        Self { status, ..Self::json(body.to_string()) }
    }

    /// Puts another body in place, and drops the checksum of the old one.
    pub(super) fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.headers.remove(CHECKSUM);
        self.body = body.into();
        self
    }

    pub(super) fn into_response(self, request_id: u128) -> Response<Payload> {
        let mut response = Response::new(Payload::whole(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Ok(value) = HeaderValue::from_str(&format!("{request_id:032X}")) {
            response.headers_mut().entry(REQUEST_ID).or_insert(value);
        }
        response
    }
}

/// An exception's name as it stands in an error body.
pub(super) fn qualified(code: &str) -> String {
    let namespace = match code {
        "ThrottlingException" | "AccessDeniedException" | "ValidationException" => "com.amazon.coral.service",
        "ExpiredTokenException" | "UnrecognizedClientException" => "com.amazon.coral.service",
        _ => "com.amazonaws.dynamodb.v20120810",
    };
    format!("{namespace}#{code}")
}

/// A body that announces its whole length, and may break off after its first half.
#[derive(Debug)]
pub(super) struct Payload {
    data: Option<Bytes>,
    announced: u64,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// Give the connection a chance to flush the first half, then break.
    Flush,
    Break,
}

/// The body broke off on purpose.
#[derive(Debug, thiserror::Error)]
#[error("send the whole body: it breaks off by rule")]
pub(super) struct Broken;

impl Payload {
    fn whole(data: Bytes) -> Self {
        Self {
            announced: data.len() as u64,
            data: Some(data).filter(|data| !data.is_empty()),
            end: End::Whole,
        }
    }

    /// The same body, of which only the first half is ever sent.
    pub(super) fn truncated(self) -> Self {
        let data = self.data.map(|data| data.slice(..data.len() / 2)).filter(|data| !data.is_empty());
        Self { data, announced: self.announced, end: End::Flush }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Flush => {
                self.end = End::Break;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Break => Poll::Ready(Some(Err(Broken))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.end == End::Whole
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
