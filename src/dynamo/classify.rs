//! What an SDK error means.
//!
//! The service's own code decides where there is one, modelled by the SDK or not. Without one, the question is
//! what is certain: a request that never left, or whose connection was never made, was not received; any other
//! that got no whole answer may have been carried out, now or later.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use serde::Deserialize;

use super::error::{Error, ThrottleReason};
use super::raw::Late;
use crate::fault::{Fault, Width};

/// The circumstances of a failed call.
pub(super) struct Failure<'a> {
    pub(super) operation: &'static str,
    pub(super) address: &'a str,
    /// Whether the request was handed to the network.
    pub(super) transmitted: bool,
}

/// The members of a throttle's body, in the spellings of its different errors.
#[derive(Deserialize)]
struct Throttle {
    #[serde(alias = "ThrottlingReasons", alias = "throttlingReasons", default)]
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    resource: String,
}

/// How much of an unknown answer an error quotes.
const QUOTED_CHARS: usize = 200;

// === impl Failure ===

impl Failure<'_> {
    /// The call's deadline passed.
    pub(super) fn timed_out(&self, limit: Duration) -> Error {
        let (fault, state) = match self.transmitted {
            true => (Fault::Unanswered, "no answer"),
            false => (Fault::Transient, "no credentials or endpoint"),
        };
        self.error(fault, format!("{state} within {limit:?} ({})", self.address))
    }

    /// The client gave an error.
    pub(super) fn told<E>(&self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let told = match &error {
            _ if causes(&error).any(|cause| cause.is::<Late>()) => self.error(Fault::Transient, root(&error)),
            SdkError::ServiceError(context) => self.answered(context.err().meta(), context.raw()),
            SdkError::ResponseError(context) => self.broke_off(context.raw(), &error),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) if self.transmitted => self.undelivered(error),
                Some(error) => self.untransmitted(error),
                None => self.error(Fault::Unanswered, root(&error)),
            },
            SdkError::ConstructionFailure(_) => self.error(Fault::Invalid, root(&error)),
            _ => self.error(Fault::Unanswered, format!("{} ({})", root(&error), self.address)),
        };
        if told.fault == Fault::Invalid && causes(&error).any(quotes_request) {
            return told;
        }
        Error { source: Some(Box::new(error)), ..told }
    }

    fn answered(&self, meta: &ErrorMetadata, response: &HttpResponse) -> Error {
        let body = response.body().bytes().unwrap_or_default();
        let status = response.status().as_u16();
        let reasons = match meta.code() {
            Some(_) => reasons(body),
            None => Vec::new(),
        };
        let fault = match meta.code() {
            Some(code) => of_code(code, &reasons).unwrap_or_else(|| of_status(status, true)),
            None => of_status(status, false),
        };
        let message = match meta.message() {
            Some(message) => message.to_owned(),
            None if meta.code().is_some() => format!("status {status}"),
            None => {
                let text = String::from_utf8_lossy(body);
                let quoted: String = text.chars().take(QUOTED_CHARS).collect();
                format!("status {status} without an error code ({}): {quoted}", self.address)
            }
        };
        Error { code: meta.code().map(str::to_owned), reasons, ..self.error(fault, message) }
    }

    /// The head of an answer came, but not the whole body.
    fn broke_off(&self, response: &HttpResponse, error: &(dyn StdError + 'static)) -> Error {
        let status = response.status().as_u16();
        let message = format!("answer {status} broke off: {} ({})", root(error), self.address);
        self.error(Fault::Unanswered, message)
    }

    fn undelivered(&self, error: &ConnectorError) -> Error {
        let connecting = causes(error).any(|cause| {
            let client = cause.downcast_ref::<hyper_util::client::legacy::Error>();
            let connection = cause.downcast_ref::<hyper::Error>();
            // Canceled: the connection was closed before it took the request.
            client.is_some_and(|error| error.is_connect())
                || connection.is_some_and(hyper::Error::is_canceled)
        });
        let fault = match connecting {
            true => Fault::Transient,
            false => Fault::Unanswered,
        };
        self.error(fault, format!("{} ({})", root(error), self.address))
    }

    /// Before a request goes to the network only the credentials or the endpoint can fail.
    fn untransmitted(&self, error: &ConnectorError) -> Error {
        let cause = error.source().unwrap_or(error);
        if quotes_request(cause) {
            return self.error(Fault::Invalid, format!("{} ({})", root(cause), self.address));
        }
        self.error(Fault::Denied, chain(cause))
    }

    fn error(&self, fault: Fault, message: String) -> Error {
        Error::new(self.operation, fault, message)
    }
}

/// Whether this is the client's complaint about an endpoint that is no URL. Its text holds the whole request,
/// items and all, so neither it nor its parents may reach a log.
fn quotes_request(error: &(dyn StdError + 'static)) -> bool {
    error.to_string().starts_with("failed to apply endpoint")
}

/// The meaning of a service's error code; `None` for one that is not known.
fn of_code(code: &str, reasons: &[ThrottleReason]) -> Option<Fault> {
    let width = || reasons.iter().map(|reason| reason.width).max_by_key(|width| rank(*width));
    Some(match code {
        "ThrottlingException"
        | "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "SlowDown" => Fault::Throttled(width().unwrap_or(Width::Unknown)),
        // Documented as the account's quota in the region.
        "RequestLimitExceeded" => Fault::Throttled(width().unwrap_or(Width::Account)),
        "InternalServerError"
        | "InternalServerErrorException"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => Fault::Transient,
        "ExpiredIteratorException" => Fault::ExpiredIterator,
        "TrimmedDataAccessException" => Fault::Trimmed,
        "ResourceNotFoundException" | "TableNotFoundException" => Fault::Missing,
        "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "AuthFailure" => Fault::Denied,
        "ConditionalCheckFailedException"
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException"
        | "ResourceInUseException"
        | "TableInUseException" => Fault::Conflict,
        "ValidationException"
        | "ItemCollectionSizeLimitExceededException"
        | "SerializationException"
        | "UnknownOperationException" => Fault::Invalid,
        _ => return None,
    })
}

/// The meaning of an HTTP status where the code says nothing.
fn of_status(status: u16, from_service: bool) -> Fault {
    match status {
        // A proxy in between gave up; the service may still be at work.
        502 | 504 if !from_service => Fault::Unanswered,
        500.. => Fault::Transient,
        429 => Fault::Throttled(Width::Unknown),
        401 | 403 | 407 => Fault::Denied,
        400..=499 if from_service => Fault::Invalid,
        // Whoever said this is not DynamoDB.
        _ => Fault::Protocol,
    }
}

fn reasons(body: &[u8]) -> Vec<ThrottleReason> {
    // An error without reasons, or with a body that is no JSON, has none; the code says enough then.
    let Ok(throttle) = serde_json::from_slice::<Throttle>(body) else {
        return Vec::new();
    };
    let told = |Reason { reason, resource }| ThrottleReason { width: width_of(&reason), reason, resource };
    throttle.reasons.into_iter().map(told).collect()
}

/// How far a reason such as `TableWriteKeyRangeThroughputExceeded` reaches. A hot range of an *index* names no
/// range of the table's keys, so it counts for the whole index.
fn width_of(reason: &str) -> Width {
    if reason.contains("AccountLimit") {
        Width::Account
    } else if reason.starts_with("Index") {
        Width::Index
    } else if reason.contains("KeyRange") {
        Width::KeyRange
    } else if reason.starts_with("Table") {
        Width::Table
    } else {
        Width::Unknown
    }
}

fn rank(width: Width) -> u8 {
    match width {
        Width::Unknown => 0,
        Width::KeyRange => 1,
        Width::Index => 2,
        Width::Table => 3,
        Width::Account => 4,
    }
}

/// An error and all its causes. An `io::Error` hides the error that it wraps from `source`.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(wrapper) => wrapper.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

/// The deepest cause in words.
fn root(error: &(dyn StdError + 'static)) -> String {
    let mut deepest = String::new();
    for cause in causes(error) {
        deepest = match cause.downcast_ref::<io::Error>() {
            // "connection refused" without "(os error 111)".
            Some(error) if error.raw_os_error().is_some() => error.kind().to_string(),
            _ => cause.to_string(),
        };
    }
    deepest
}

/// An error and its causes in words, outermost first, without repetitions.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_decide_the_width() {
        let body = br#"{"__type":"x#ThrottlingException","message":"m","throttlingReasons":[
            {"reason":"TableWriteKeyRangeThroughputExceeded","resource":"arn:t"},
            {"reason":"IndexWriteProvisionedThroughputExceeded","resource":"arn:t/index/i"}]}"#;
        let found = reasons(body);
        assert_eq!(found[0].width, Width::KeyRange);
        assert_eq!(found[1].resource, "arn:t/index/i");
        assert_eq!(of_code("ThrottlingException", &found), Some(Fault::Throttled(Width::Index)));
        for (reason, width) in [
            ("TableWriteProvisionedThroughputExceeded", Width::Table),
            ("TableWriteMaxOnDemandThroughputExceeded", Width::Table),
            ("TableReadAccountLimitExceeded", Width::Account),
            ("IndexWriteAccountLimitExceeded", Width::Account),
            ("IndexWriteKeyRangeThroughputExceeded", Width::Index),
            ("SomethingNew", Width::Unknown),
        ] {
            assert_eq!(width_of(reason), width, "{reason}");
        }
    }

    #[test]
    fn a_throttle_without_reasons_has_an_unknown_width() {
        for body in [&b""[..], b"<html>", b"{}", br#"{"ThrottlingReasons":null}"#] {
            assert!(reasons(body).is_empty());
        }
        assert_eq!(of_code("LimitExceededException", &[]), Some(Fault::Throttled(Width::Unknown)));
        assert_eq!(of_code("RequestLimitExceeded", &[]), Some(Fault::Throttled(Width::Account)));
    }

    #[test]
    fn a_status_alone_is_read_with_care() {
        assert_eq!(of_status(500, true), Fault::Transient);
        assert_eq!(of_status(503, false), Fault::Transient);
        assert_eq!(of_status(504, false), Fault::Unanswered);
        assert_eq!(of_status(413, true), Fault::Invalid);
        assert_eq!(of_status(413, false), Fault::Protocol);
        assert_eq!(of_status(200, true), Fault::Protocol);
    }

    #[test]
    fn the_root_is_found_behind_an_io_error() {
        let inner = io::Error::from_raw_os_error(111);
        let outer = io::Error::other(inner);
        assert_eq!(root(&outer), "connection refused");
    }
}
