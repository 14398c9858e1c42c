//! One call: its deadline, its outcome in our words, and the report about it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use tokio::time::Instant;

use super::answer::Malformed;
use super::classify::{self, Failure};
use super::error::Error;
use super::raw::{Exchange, Exchanged, Late};
use crate::fault::Fault;

/// A call that has ended, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// `streams`, `dynamodb` or `application-autoscaling`.
    pub service: &'static str,
    /// The API operation, such as `BatchWriteItem`.
    pub operation: &'static str,
    /// `None` when it succeeded. A condition that did not hold counts as [`Fault::Conflict`].
    pub fault: Option<Fault>,
    /// From before the request was made until the answer was read.
    pub elapsed: Duration,
}

/// Is told of each call when it has ended, in the task that made it.
pub type Observer = Arc<dyn Fn(Call) + Send + Sync>;

/// What an SDK call gave, unless its deadline passed.
type Attempt<T, E> = Result<Result<T, SdkError<E, HttpResponse>>, tokio::time::error::Elapsed>;

tokio::task_local! {
    /// When the time of the calls in this scope is over.
    static DEADLINE: Instant;
}

/// Awaits a call until `deadline`, after which none of its requests goes to the network any more, even where the whole
/// process stood still in between. A call that is cut off may have been carried out (`Unanswered`), unless it is
/// certain that it was not sent (`Transient`); `operation` names it then.
///
/// # Errors
/// Those of the call, and when the deadline passes.
pub async fn until<T>(
    deadline: Instant,
    operation: &'static str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    if deadline <= Instant::now() {
        return Err(Error::new(operation, Fault::Transient, Late.to_string()));
    }
    let in_time = DEADLINE.scope(deadline, tokio::time::timeout_at(deadline, call)).await;
    in_time.unwrap_or_else(|_| Err(Error::new(operation, Fault::Unanswered, "no answer in time")))
}

/// Makes the calls of one client.
///
/// The future of an SDK call takes 8 kB, and each `async fn` that it is moved through doubles that. So it is
/// pinned where it is made and comes here by reference.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) service: &'static str,
    /// Where the requests go, for error messages.
    pub(super) address: Arc<str>,
    pub(super) observer: Option<Observer>,
}

// === impl Caller ===

impl Caller {
    /// Awaits a call whose output the client reads.
    pub(super) async fn typed<T, E>(
        &self,
        operation: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Error>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let (output, _) = self.run(operation, limit, Exchange::default(), call).await?;
        Ok(output)
    }

    /// Awaits a call whose answer's body is wanted as it is.
    pub(super) async fn raw<T, E>(
        &self,
        operation: &'static str,
        limit: Duration,
        exchange: Exchange,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<Bytes, Error>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let (_, body) = self.run(operation, limit, exchange, call).await?;
        body.ok_or_else(|| Error::new(operation, Fault::Protocol, "the answer's body was not kept"))
    }

    async fn run<T, E>(
        &self,
        operation: &'static str,
        limit: Duration,
        exchange: Exchange,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<(T, Option<Bytes>), Error>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let started = Instant::now();
        let deadline = started + limit;
        let deadline = DEADLINE.try_with(|outer| deadline.min(*outer)).unwrap_or(deadline);
        // The only deadline of a call. Dropping the future closes its connection, so nothing more is sent.
        let exchanged = exchange.around(deadline, tokio::time::timeout_at(deadline, call)).await;
        let outcome = self.judge(operation, limit, exchanged).await;
        if let Some(observer) = &self.observer {
            observer(Call {
                service: self.service,
                operation,
                fault: outcome.as_ref().err().map(|error| error.fault),
                elapsed: started.elapsed(),
            });
        }
        outcome
    }

    async fn judge<T, E>(
        &self,
        operation: &'static str,
        limit: Duration,
        exchanged: Exchanged<Attempt<T, E>>,
    ) -> Result<(T, Option<Bytes>), Error>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let failure = Failure { operation, address: &self.address, transmitted: exchanged.transmitted };
        let output = match exchanged.result {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(failure.told(error)),
            Err(_) => return Err(failure.timed_out(limit)),
        };
        let body = match exchanged.answer {
            // It is in memory: this neither waits nor copies.
            Some(body) => ByteStream::new(body).collect().await.map(|all| all.into_bytes()).ok(),
            None => None,
        };
        Ok((output, body))
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("service", &self.service)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The error for a 2xx answer whose body makes no sense.
pub(super) fn unreadable(operation: &'static str, malformed: Malformed) -> Error {
    let message = format!("failed to {}", classify::chain(&malformed));
    Error { source: Some(Box::new(malformed)), ..Error::new(operation, Fault::Protocol, message) }
}
