//! Lets bytes pass through an SDK client untouched.
//!
//! An SDK client turns typed values into JSON and back, which costs ten times what replication itself does. But
//! it loads the serializer and the deserializer of a call from a store that interceptors may write to, and it
//! runs its whole pipeline in the task that awaits the call. So an [`Exchange`] rides along in a task-local:
//! the [`Hook`] finds it there, puts a serializer in place that sends the exchange's bytes, and a deserializer
//! that keeps the answer's. Credentials, endpoint, signature, connection pool and errors stay the client's.
//!
//! Invariants: an answer other than 2xx goes to the client's own deserializer, so its error types hold; a call
//! without a body of its own is serialized by the client. The output's type must be that of the operation: it
//! is made by the function that the exchange was built with. An exchange serves one attempt, because the
//! clients here never retry.
//!
//! A process may stand still at any moment, for longer than its leases last (a stopped process, a paused machine). So
//! the deadline of a call is asked twice more behind the client's back: before the signed request is handed to the
//! connection, and when the connection, a task of its own, takes the body to write it to its socket. A request whose
//! body does not follow its head is never carried out.
//!
//! What is not covered: between that last look and the `write` system call lie some instructions. And bytes that are in
//! the kernel's buffer are sent for as long as the kernel likes, also after the connection was closed: on Linux a
//! partition that heals within a minute or two delivers them (`net.ipv4.tcp_orphan_retries`, 8 by default, and
//! `tcp_retries2`; lower them where partitions are long and leases short). The SDK's connector offers no way to set
//! `TCP_USER_TIMEOUT`. A [`Guard`](super::Guard) makes such writes harmless.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_dynamodb::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeSerializationInterceptorContextMut,
    BeforeTransmitInterceptorContextMut,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{Error, Input, Output};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::ser_de::{
    DeserializeResponse, SerializeRequest, SharedRequestSerializer, SharedResponseDeserializer,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

tokio::task_local! {
    static EXCHANGE: Exchange;
}

/// What one call hands over to the hook, and gets back from it.
#[derive(Default)]
pub(super) struct Exchange {
    request: Cell<Option<Request>>,
    empty: Option<fn() -> Output>,
    deadline: Cell<Option<Instant>>,
    transmitted: Cell<bool>,
    answer: Cell<Option<SdkBody>>,
}

/// A request that is sent as it stands.
struct Request {
    target: Cow<'static, str>,
    content_type: &'static str,
    body: Bytes,
}

/// The content type of DynamoDB's requests.
const JSON_1_0: &str = "application/x-amz-json-1.0";

/// What became of an exchange.
pub(super) struct Exchanged<T> {
    /// What the awaited future gave.
    pub(super) result: T,
    /// Whether the request was handed to the network. If not, nothing was sent.
    pub(super) transmitted: bool,
    /// The body of a 2xx answer, if it was asked for.
    pub(super) answer: Option<SdkBody>,
}

/// The interceptor; one for each client.
#[derive(Debug)]
pub(super) struct Hook {
    serializer: SharedRequestSerializer,
}

/// The call's time was over before its request went to the network.
#[derive(Debug, thiserror::Error)]
#[error("not sent: its time was over before")]
pub(super) struct Late;

/// A body of which nothing is sent after the deadline.
#[derive(Debug)]
struct InTime {
    body: SdkBody,
    deadline: Instant,
}

#[derive(Debug)]
struct SendBytes;

#[derive(Debug)]
struct KeepBytes;

// === impl Exchange ===

impl Exchange {
    /// The client writes the request; the answer's body is kept, and the typed output is `empty`.
    pub(super) fn keep(empty: fn() -> Output) -> Self {
        Self { empty: Some(empty), ..Self::default() }
    }

    /// `body` is sent to the operation `target`, whatever the typed input is; the answer's body is kept.
    pub(super) fn send(target: impl Into<Cow<'static, str>>, body: Vec<u8>, empty: fn() -> Output) -> Self {
        Self::send_as(JSON_1_0, target, body, empty)
    }

    /// As [`Self::send`] to a service that speaks another version of the protocol.
    pub(super) fn send_as(
        content_type: &'static str,
        target: impl Into<Cow<'static, str>>,
        body: Vec<u8>,
        empty: fn() -> Output,
    ) -> Self {
        let (target, body) = (target.into(), body.into());
        Self { request: Cell::new(Some(Request { target, content_type, body })), ..Self::keep(empty) }
    }

    /// Awaits `call`, the future of one SDK call, with this exchange at hand. Its request is not sent after `deadline`;
    /// the call is not cut off by it.
    pub(super) async fn around<T>(self, deadline: Instant, call: impl Future<Output = T>) -> Exchanged<T> {
        self.deadline.set(Some(deadline));
        let whole = async {
            let result = call.await;
            EXCHANGE.with(|exchange| Exchanged {
                result,
                transmitted: exchange.transmitted.get(),
                answer: exchange.answer.take(),
            })
        };
        EXCHANGE.scope(self, whole).await
    }
}

// === impl Hook ===

impl Hook {
    pub(super) fn new() -> Self {
        Self { serializer: SharedRequestSerializer::new(SendBytes) }
    }
}

// Without the hint the client calls the sixteen hooks that are not used here, too.
#[dyn_dispatch_hint]
impl Intercept for Hook {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn modify_before_serialization(
        &self,
        _: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let has_body = EXCHANGE.try_with(|exchange| {
            let request = exchange.request.take();
            let has_body = request.is_some();
            exchange.request.set(request);
            has_body
        });
        if has_body.unwrap_or(false) {
            cfg.interceptor_state().store_put(self.serializer.clone());
        }
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Outside an exchange nobody asks.
        let Ok(Some(deadline)) = EXCHANGE.try_with(|exchange| exchange.deadline.get()) else {
            return Ok(());
        };
        if deadline <= Instant::now() {
            return Err(Late.into());
        }
        // It is signed by now, so its bytes need not be at hand any more.
        let body = context.request_mut().body_mut();
        let inner = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(InTime { body: inner, deadline });
        EXCHANGE.with(|exchange| exchange.transmitted.set(true));
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let keeps = EXCHANGE.try_with(|exchange| exchange.empty.is_some());
        if keeps.unwrap_or(false) && context.response().status().is_success() {
            // Unlike the serializer it cannot be cloned.
            let deserializer = SharedResponseDeserializer::new(KeepBytes);
            cfg.interceptor_state().store_put(deserializer);
        }
        Ok(())
    }
}

// === impl InTime ===

impl Body for InTime {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.deadline <= Instant::now() {
            return Poll::Ready(Some(Err(Late.into())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

// === impl SendBytes ===

impl SerializeRequest for SendBytes {
    fn serialize_input(&self, _: Input, _: &mut ConfigBag) -> Result<HttpRequest, BoxError> {
        let request = EXCHANGE.try_with(|exchange| exchange.request.take())?;
        let Request { target, content_type, body } = request.ok_or("the body was sent before")?;
        let length = body.len().to_string();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST")?;
        let headers = request.headers_mut();
        headers.try_insert("content-type", content_type)?;
        headers.try_insert("x-amz-target", target)?;
        headers.try_insert("content-length", length)?;
        Ok(request)
    }
}

// === impl KeepBytes ===

impl DeserializeResponse for KeepBytes {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        _: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        // The client has read the body into memory by now, so a clone shares it.
        let body = response.body().try_clone();
        let empty = EXCHANGE.try_with(|exchange| {
            exchange.answer.set(body);
            exchange.empty
        });
        match empty {
            Ok(Some(empty)) if response.status().is_success() => Ok(empty()),
            _ => Err(OrchestratorError::other("the answer belongs to no exchange")),
        }
    }
}
