//! One region's listener: takes a request, applies the faults, and answers or passes it on.

use super::{
    batch::{self, Division},
    fault::{self, Fault, Throttle},
    reply::{Payload, Reply},
    request::{Request, is_write},
    site::Site,
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
pub(super) async fn listen(site: Arc<Site>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = site.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if site.faults.refuses_connections() => reset(&stream),
            Ok((stream, _)) => {
                site.tasks.spawn(connection(Arc::clone(&site), stream));
            }
            Err(error) => tracing::warn!(%error, region = %site.name, "connection not accepted"),
        }
    }
}

/// Makes the close that follows a reset rather than an orderly end.
fn reset(stream: &TcpStream) {
    // A socket that cannot be told so is closed all the same.
    let _ = stream.set_zero_linger();
}

async fn connection(site: Arc<Site>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let dropped = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| {
        let (site, dropped) = (Arc::clone(&site), Arc::clone(&dropped));
        Box::pin(async move {
            let answered = answer(site, request).await;
            dropped.store(answered.is_err(), Ordering::Relaxed);
            answered
        })
    });
    let mut connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let served = tokio::select! {
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
        () = site.stop.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, region = %site.name, "connection ended early");
    }
    let stream = connection.into_parts().io.into_inner();
    if dropped.load(Ordering::Relaxed) {
        reset(&stream);
    }
}

async fn answer(site: Arc<Site>, request: hyper::Request<Incoming>) -> Result<Response<Payload>, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|error| Dropped(Some(error)))?.to_bytes();
    let path = head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let request = Request { method: head.method, path, headers: head.headers, body };
    let request_id = site.count(request.operation());
    match judge(&site, request).await {
        Outcome::Answer(reply) => Ok(reply.into_response(request_id)),
        Outcome::Truncated(reply) => Ok(reply.into_response(request_id).map(Payload::truncated)),
        Outcome::Nothing => Err(Dropped(None)),
    }
}

/// Handles a request under the region's fault rules.
async fn judge(site: &Arc<Site>, request: Request) -> Outcome {
    let verdict = site.faults.judge(request.operation(), &request);
    if !verdict.delay.is_zero() {
        site.pause(verdict.delay).await;
    }
    let Some(fault) = verdict.fault else {
        return Outcome::Answer(apply(site, request).await);
    };
    Outcome::Answer(match fault {
        Fault::Throttle { exception, reasons } => fault::throttled(exception, &reasons),
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Reply::failure(status, "InternalServerError", "The server encountered an internal error")
        }
        Fault::Refuse { code, message } => Reply::refusal(&code, &message),
        Fault::Poison { .. } => {
            Reply::refusal("ValidationException", "One or more parameter values were invalid")
        }
        Fault::Unprocessed { share } => apply_part(site, request, |_| !site.faults.holds_back(share)).await,
        Fault::Slow(_) => apply(site, request).await,
        Fault::TruncateBody => return Outcome::Truncated(apply(site, request).await),
        Fault::ResetBefore | Fault::Down => return Outcome::Nothing,
        Fault::Hang(duration) => {
            site.pause(duration).await;
            return Outcome::Nothing;
        }
        Fault::ResetAfter => {
            apply(site, request).await;
            return Outcome::Nothing;
        }
        Fault::Late(delay) => {
            let later = Arc::clone(site);
            site.tasks.spawn(async move {
                if later.pause(delay).await {
                    apply(&later, request).await;
                }
            });
            return Outcome::Nothing;
        }
    })
}

/// Handles a request to its end, also when the client is gone before: the service does not take a write back
/// because nobody waits for its answer.
async fn apply(site: &Arc<Site>, request: Request) -> Reply {
    let handled = {
        let site = Arc::clone(site);
        site.tasks.clone().spawn(async move { dispatch(&site, request).await })
    };
    let failed = |_| Reply::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "interrupted");
    handled.await.unwrap_or_else(failed)
}

/// Applies the items that `keep` lets through, and gives the others back unprocessed.
async fn apply_part(site: &Arc<Site>, request: Request, keep: impl FnMut(&str) -> bool) -> Reply {
    match batch::divide(&request.body, keep) {
        Division::All => apply(site, request).await,
        Division::Nothing => exceeded(site, &request),
        Division::Parts { applied, returned } => {
            let reply = apply(site, Request { body: applied, ..request }).await;
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
fn exceeded(site: &Site, request: &Request) -> Reply {
    let reasons: Vec<fault::Reason> =
        request.tables().iter().map(|table| site.table_limit_reason(table)).collect();
    fault::throttled(Throttle::ProvisionedThroughputExceeded, &reasons)
}

async fn dispatch(site: &Arc<Site>, request: Request) -> Reply {
    let operation = request.operation().to_owned();
    if let Some(reply) = streams::answer(site, &operation, &request.body).await {
        return reply;
    }
    if is_write(&operation) {
        return write(site, &operation, request).await;
    }
    match operation.as_str() {
        "CreateTable" | "DescribeTable" | "UpdateTable" | "DeleteTable" => {
            site.table_operation(&operation, request).await
        }
        _ => site.forward(request).await,
    }
}

/// Passes a write on, within the table's limit if it has one.
async fn write(site: &Arc<Site>, operation: &str, mut request: Request) -> Reply {
    let mut returned = None;
    if site.limits.any() {
        if operation == "BatchWriteItem" {
            match batch::divide(&request.body, |table| site.admits(table)) {
                Division::All => {}
                Division::Nothing => return exceeded(site, &request),
                Division::Parts { applied, returned: rest } => {
                    request.body = applied;
                    returned = Some(rest);
                }
            }
        } else if !request.tables().iter().all(|table| site.admits(table)) {
            return exceeded(site, &request);
        }
    }
    let body = request.body.clone();
    let reply = site.forward(request).await;
    if !reply.status.is_success() {
        return reply;
    }
    site.wrote(operation, &body);
    match returned {
        Some(returned) => with_returned(reply, &returned),
        None => reply,
    }
}
