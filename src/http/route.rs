//! Who may ask what, and the answers.

use std::future::{self, Ready};
use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::Source;
use crate::telemetry;

/// The page loads its own style and script, an icon that is empty, and nothing else; nobody may show it in a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// All paths. GET and HEAD are all that is understood.
pub(super) fn router(source: Source, local_addr: SocketAddr) -> Router {
    let only_local_names = local_addr.ip().is_loopback();
    let guard = move |request: Request, next: Next| guard(only_local_names, request, next);
    Router::new()
        .route("/", get(|| asset("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/page/status.css", get(|| asset("text/css", include_str!("page/status.css"))))
        .route("/page/status.js", get(|| asset("text/javascript", include_str!("page/status.js"))))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/v1/status", get(status))
        .fallback(|| future::ready((StatusCode::NOT_FOUND, "there is nothing here; start at /\n")))
        .layer(middleware::from_fn(guard))
        .with_state(source)
}

async fn guard(only_local_names: bool, request: Request, next: Next) -> Response {
    if only_local_names && !named_locally(request.headers()) {
        let refusal = "this address answers only as localhost, 127.0.0.1 or [::1]\n";
        return (StatusCode::MISDIRECTED_REQUEST, refusal).into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether every `Host` is a name of this very host. Browsers always send one; what sends none is no browser.
fn named_locally(headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().all(|host| host.to_str().is_ok_and(is_local))
}

/// `host[:port]`, where an IPv6 address stands in brackets.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn asset(content_type: &'static str, text: &'static str) -> Ready<Response> {
    future::ready(([(CONTENT_TYPE, content_type)], text).into_response())
}

async fn metrics(State(source): State<Source>) -> Response {
    match source.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, telemetry::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics not rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to {error}\n")).into_response()
        }
    }
}

async fn livez(State(source): State<Source>) -> Response {
    match (source.liveness)() {
        Ok(()) => "alive\n".into_response(),
        Err(reasons) => unavailable(&reasons),
    }
}

async fn readyz(State(source): State<Source>) -> Response {
    let status = (source.status)();
    if status.ready { "ready\n".into_response() } else { unavailable(&status.not_ready) }
}

async fn status(State(source): State<Source>) -> Response {
    Json((source.status)()).into_response()
}

/// The reasons, a line each.
fn unavailable(reasons: &[String]) -> Response {
    let mut text = reasons.join("\n");
    if text.is_empty() {
        text.push_str("no reason given");
    }
    text.push('\n');
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn names_of_this_host_are_known_with_any_port() {
        for host in
            ["localhost", "LOCALHOST:9464", "127.0.0.1", "127.0.0.1:80", "127.9.9.9", "[::1]", "[::1]:9464"]
        {
            assert!(is_local(host), "{host}");
        }
    }

    #[test]
    fn names_that_only_look_local_are_not() {
        for host in [
            "",
            "example.com",
            "localhost.example.com:9464",
            "127.0.0.1.example.com",
            "[::2]",
            "::1",
            "10.0.0.1:9464",
            "localhost@example.com",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
