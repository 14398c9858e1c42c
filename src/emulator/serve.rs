//! One region's listener: takes a request, applies the faults, and answers or passes it on.

use super::{
    batch::{self, Division},
    fault::{self, Fault, Throttle},
    region::Inner,
    reply::{Payload, Reply},
    request::{Request, is_write},
    streams,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::{TcpListener, TcpStream};

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("answer the request")]
struct Dropped(#[source] Option<hyper::Error>);

/// What a client gets.
enum Outcome {
    Answer(Reply),
    /// The answer breaks off half-way.
    Truncated(Reply),
    /// The connection is dropped.
    Nothing,
}

/// Accepts connections until the region stops.
pub(super) async fn listen(region: Arc<Inner>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = region.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if region.faults.refuses_connections() => reset(&stream),
            Ok((stream, _)) => {
                region.tasks.spawn(connection(Arc::clone(&region), stream));
            }
            Err(error) => tracing::warn!(%error, region = %region.name, "connection not accepted"),
        }
    }
}

/// Makes the close that follows a reset rather than an orderly end.
fn reset(stream: &TcpStream) {
    // A socket that cannot be told so is closed all the same.
    let _ = stream.set_zero_linger();
}

async fn connection(region: Arc<Inner>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let dropped = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| {
        let (region, dropped) = (Arc::clone(&region), Arc::clone(&dropped));
        Box::pin(async move {
            let answered = answer(region, request).await;
            dropped.store(answered.is_err(), Ordering::Relaxed);
            answered
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
        () = region.stop.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, region = %region.name, "connection ended early");
    }
    let stream = connection.into_parts().io.into_inner();
    if dropped.load(Ordering::Relaxed) {
        reset(&stream);
    }
}

async fn answer(region: Arc<Inner>, request: hyper::Request<Incoming>) -> Result<Response<Payload>, Dropped> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| Dropped(Some(error)))?
        .to_bytes();
    let path = head
        .uri
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string);
    let request = Request {
        method: head.method,
        path,
        headers: head.headers,
        body,
    };
    let request_id = region.count(request.operation());
    match judge(&region, request).await {
        Outcome::Answer(reply) => Ok(reply.into_response(request_id)),
        Outcome::Truncated(reply) => Ok(reply.into_response(request_id).map(Payload::truncated)),
        Outcome::Nothing => Err(Dropped(None)),
    }
}

/// Handles a request under the region's fault rules.
async fn judge(region: &Arc<Inner>, request: Request) -> Outcome {
    let verdict = region.faults.judge(request.operation(), &request);
    if !verdict.delay.is_zero() {
        tokio::time::sleep(verdict.delay).await;
    }
    let Some(fault) = verdict.fault else {
        return Outcome::Answer(apply(region, request).await);
    };
    Outcome::Answer(match fault {
        Fault::Throttle { exception, reasons } => fault::throttled(exception, &reasons),
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Reply::failure(
                status,
                "InternalServerError",
                "The server encountered an internal error",
            )
        }
        Fault::Refuse { code, message } => Reply::refusal(&code, &message),
        Fault::Poison { .. } => {
            Reply::refusal("ValidationException", "One or more parameter values were invalid")
        }
        Fault::Unprocessed { share } => {
            apply_part(region, request, |_| !region.faults.holds_back(share)).await
        }
        Fault::Slow(_) => apply(region, request).await,
        Fault::TruncateBody => return Outcome::Truncated(apply(region, request).await),
        Fault::ResetBefore | Fault::Down => return Outcome::Nothing,
        Fault::Hang(duration) => {
            tokio::time::sleep(duration).await;
            return Outcome::Nothing;
        }
        Fault::ResetAfter => {
            apply(region, request).await;
            return Outcome::Nothing;
        }
        Fault::Late(delay) => {
            let later = Arc::clone(region);
            region.tasks.spawn(async move {
                tokio::time::sleep(delay).await;
                apply(&later, request).await;
            });
            return Outcome::Nothing;
        }
    })
}

/// Handles a request to its end, also when the client is gone before: the service does not take a write back
/// because nobody waits for its answer.
async fn apply(region: &Arc<Inner>, request: Request) -> Reply {
    let handled = {
        let region = Arc::clone(region);
        region
            .tasks
            .clone()
            .spawn(async move { dispatch(&region, request).await })
    };
    let failed = |_| {
        Reply::failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "interrupted",
        )
    };
    handled.await.unwrap_or_else(failed)
}

/// Applies the items that `keep` lets through, and gives the others back unprocessed.
async fn apply_part(region: &Arc<Inner>, request: Request, keep: impl FnMut(&str) -> bool) -> Reply {
    match batch::divide(&request.body, keep) {
        Division::All => apply(region, request).await,
        Division::Nothing => exceeded(region, &request),
        Division::Parts { applied, returned } => {
            let reply = apply(
                region,
                Request {
                    body: applied,
                    ..request
                },
            )
            .await;
            with_returned(reply, &returned)
        }
    }
}

fn with_returned(reply: Reply, returned: &Bytes) -> Reply {
    if !reply.status.is_success() {
        return reply;
    }
    let body = batch::merge(&reply.body, returned);
    reply.with_body(body)
}

/// What the service says when no item of a request fits the table's throughput.
fn exceeded(region: &Inner, request: &Request) -> Reply {
    let reasons: Vec<fault::Reason> = request
        .tables()
        .iter()
        .map(|table| region.table_limit_reason(table))
        .collect();
    fault::throttled(Throttle::ProvisionedThroughputExceeded, &reasons)
}

async fn dispatch(region: &Arc<Inner>, request: Request) -> Reply {
    let operation = request.operation().to_owned();
    if let Some(reply) = streams::answer(region, &operation, &request.body).await {
        return reply;
    }
    if is_write(&operation) {
        return write(region, &operation, request).await;
    }
    match operation.as_str() {
        "CreateTable" | "DescribeTable" | "UpdateTable" | "DeleteTable" => {
            region.table_operation(&operation, request).await
        }
        _ => region.forward(request).await,
    }
}

/// Passes a write on, within the table's limit if it has one.
async fn write(region: &Arc<Inner>, operation: &str, mut request: Request) -> Reply {
    let mut returned = None;
    if region.has_limits() {
        if operation == "BatchWriteItem" {
            match batch::divide(&request.body, |table| region.admits(table)) {
                Division::All => {}
                Division::Nothing => return exceeded(region, &request),
                Division::Parts {
                    applied,
                    returned: rest,
                } => {
                    request.body = applied;
                    returned = Some(rest);
                }
            }
        } else if !request.tables().iter().all(|table| region.admits(table)) {
            return exceeded(region, &request);
        }
    }
    let body = request.body.clone();
    let reply = region.forward(request).await;
    if !reply.status.is_success() {
        return reply;
    }
    region.wrote(operation, &body);
    match returned {
        Some(returned) => with_returned(reply, &returned),
        None => reply,
    }
}
