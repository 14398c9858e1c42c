//! From the text of one value to its checked form.
//!
//! Every function here is pure and refuses with two sentences: what was expected and found, and what to
//! write instead. Ranges come from the schema.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::kind::Kind;
use super::print;
use super::problem::mask_userinfo;
use super::settings::{CopyMode, Guard, HeartbeatMode, LogFormat, Start};

/// Why a text is not a value of its kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub message: String,
    pub help: Option<String>,
}

type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn expected(kind: &Kind, found: &str) -> Self {
        Self::new(format!("expected {}, found {:?}", kind.expected(), mask_userinfo(found)))
    }
}

/// The text of a kind that stays text.
pub(super) fn text(kind: &Kind, text: &str) -> Result<String> {
    match kind {
        Kind::Name => name(text),
        Kind::Attribute => attribute(text),
        Kind::Region => region(text),
        Kind::TableName => table(text),
        Kind::Url => url(text),
        Kind::RoleArn => role_arn(text),
        Kind::ExternalId => external_id(text),
        Kind::Filter => filter(text),
        Kind::HeartbeatMode => heartbeat_mode(text).map(drop),
        Kind::Integer(range) => integer(text, range).map(drop),
        _ => non_empty(text),
    }?;
    Ok(text.to_owned())
}

/// A duration within the range.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration> {
    let kind = Kind::Duration(range.clone());
    let value = humantime::parse_duration(text).map_err(|error| {
        let refusal = Refusal::expected(&kind, text);
        match error {
            humantime::DurationError::UnknownUnit { ref unit, value, .. } if unit.is_empty() => {
                refusal.help(format!("add a unit: \"{value}s\" or \"{value}ms\""))
            }
            _ => refusal.help("units are ms, s, m and h"),
        }
    })?;
    if range.contains(&value) {
        return Ok(value);
    }
    let (start, end) = (print::duration(*range.start()), print::duration(*range.end()));
    let refusal = Refusal::new(format!("expected a duration from {start} to {end}, found {text:?}"));
    Err(if text.contains('M') { refusal.help("M means months; a minute is m") } else { refusal })
}

/// A number of bytes within the range.
pub(super) fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64> {
    let kind = Kind::Size(range.clone());
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err(Refusal::expected(&kind, text).help(format!("add a unit: \"{text}MiB\" or \"{text}B\"")));
    }
    let value = text.parse::<bytesize::ByteSize>().map_err(|_unreadable| {
        Refusal::expected(&kind, text).help("units are B, KiB, MiB, GiB (1024) and kB, MB, GB (1000)")
    })?;
    if range.contains(&value.as_u64()) {
        return Ok(value.as_u64());
    }
    let (start, end) = (print::size(*range.start()), print::size(*range.end()));
    Err(Refusal::new(format!("expected a size from {start} to {end}, found {text:?}")))
}

/// A whole number within the range.
pub(super) fn integer(text: &str, range: &RangeInclusive<u64>) -> Result<u64> {
    let outside = || {
        let (start, end) = (range.start(), range.end());
        Refusal::new(format!("expected a whole number from {start} to {end}, found {text}"))
    };
    match text.parse::<i128>() {
        Ok(value) => u64::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(outside),
        Err(_not_a_number) => Err(Refusal::expected(&Kind::Integer(range.clone()), text)),
    }
}

/// `true` or `false`, nothing else.
pub(super) fn flag(text: &str) -> Result<bool> {
    text.parse().map_err(|_other| Refusal::expected(&Kind::Flag, text))
}

/// An address with a port.
pub(super) fn listen(text: &str) -> Result<SocketAddr> {
    text.parse().map_err(|_unreadable| {
        let refusal = Refusal::expected(&Kind::Listen, text);
        let port = text.rsplit(':').next().unwrap_or(text);
        let numeric = port.parse::<u16>().is_ok();
        match text.strip_suffix(port) {
            Some("" | ":" | "*:") if numeric => {
                refusal.help(format!("write \"0.0.0.0:{port}\" for every interface"))
            }
            Some("localhost:") if numeric => refusal.help(format!("write \"127.0.0.1:{port}\"")),
            _ => refusal.help("host names are not resolved here; write an IP address and a port"),
        }
    })
}

/// The look of log lines.
pub(super) fn log_format(text: &str) -> Result<LogFormat> {
    LogFormat::ALL
        .into_iter()
        .find(|format| format.as_str() == text)
        .ok_or_else(|| Refusal::expected(&Kind::LogFormat, text))
}

/// What keeps items from going back.
pub(super) fn guard(text: &str) -> Result<Guard> {
    Guard::ALL
        .into_iter()
        .find(|guard| guard.as_str() == text)
        .ok_or_else(|| Refusal::expected(&Kind::Guard, text))
}

/// Where heartbeats are written.
pub(super) fn heartbeat_mode(text: &str) -> Result<HeartbeatMode> {
    HeartbeatMode::ALL
        .into_iter()
        .find(|mode| mode.as_str() == text)
        .ok_or_else(|| Refusal::expected(&Kind::HeartbeatMode, text))
}

/// Whether a replica is copied by itself.
pub(super) fn copy_mode(text: &str) -> Result<CopyMode> {
    CopyMode::ALL
        .into_iter()
        .find(|mode| mode.as_str() == text)
        .ok_or_else(|| Refusal::expected(&Kind::CopyMode, text))
}

/// A start position. Iterator types are also taken the way DynamoDB writes them.
pub(super) fn start(text: &str) -> Result<Start> {
    if text.eq_ignore_ascii_case("trim_horizon") {
        return Ok(Start::TrimHorizon);
    }
    if text.eq_ignore_ascii_case("latest") {
        return Ok(Start::Latest);
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Start::At { unix_ms: time.as_millisecond() }),
        Err(_unreadable) => {
            let refusal = Refusal::expected(&Kind::Start, text);
            let local = text.parse::<jiff::civil::DateTime>();
            Err(match local {
                Ok(_without_offset) => refusal.help("an RFC 3339 time needs its offset: Z or +01:00"),
                Err(_no_time) => refusal,
            })
        }
    }
}

/// The parts of a DynamoDB table ARN: region, account, table name. `None` if it is not one.
pub(super) fn table_arn(text: &str) -> Option<(&str, &str, &str)> {
    let rest = text.strip_prefix("arn:")?;
    let (partition, rest) = rest.split_once(':')?;
    let (region, rest) = rest.strip_prefix("dynamodb:")?.split_once(':')?;
    let (account, rest) = rest.split_once(':')?;
    let name = rest.strip_prefix("table/")?;
    (is_partition(partition) && is_region(region) && is_account(account) && is_table_name(name))
        .then_some((region, account, name))
}

/// The account of a role ARN. `None` if it is not one.
pub(super) fn role_account(text: &str) -> Option<&str> {
    let (partition, rest) = text.strip_prefix("arn:")?.split_once(':')?;
    let (account, rest) = rest.strip_prefix("iam::")?.split_once(':')?;
    let name = rest.strip_prefix("role/")?;
    let named = !name.is_empty() && !name.ends_with('/') && name.chars().all(|c| c.is_ascii_graphic());
    (is_partition(partition) && is_account(account) && named).then_some(account)
}

/// Names become parts of control-table keys and metric labels, so their alphabet is small.
fn name(text: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=100).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Refusal::new(format!("{text:?} cannot be a name"))
        .help("a name has 1 to 100 characters, each a letter, a digit, `.`, `_` or `-`"))
}

/// Letters that every writer of JSON leaves as they are, so that the attribute is found in an item's text as it stands.
fn attribute(text: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    if (1..=255).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Refusal::new(format!("{text:?} cannot be a guard's attribute"))
        .help("it has 1 to 255 characters, each a letter, a digit, `.`, `_`, `-` or `:`"))
}

fn region(text: &str) -> Result<()> {
    if !is_region(text) {
        let refusal = Refusal::expected(&Kind::Region, text);
        let lower = text.to_ascii_lowercase();
        return Err(if is_region(&lower) {
            refusal.help(format!("did you mean \"{lower}\"?"))
        } else {
            refusal.help("regions are written in lower-case letters, digits and `-`")
        });
    }
    // eu-west-1a: a digit and a letter after the last hyphen.
    let last = text.rsplit('-').next().unwrap_or(text);
    let zone = last.strip_suffix(|c: char| c.is_ascii_lowercase());
    match zone {
        Some(number) if text.contains('-') && !number.is_empty() && is_digits(number) => {
            let region = &text[..text.len() - 1];
            Err(Refusal::new(format!("{text:?} is an availability zone, not a region"))
                .help(format!("did you mean {region:?}?")))
        }
        _ => Ok(()),
    }
}

fn table(text: &str) -> Result<()> {
    if text.starts_with("arn:") {
        return match table_arn(text) {
            Some(_) => Ok(()),
            None => Err(Refusal::new(format!("{text:?} is not the ARN of a table"))
                .help("a table ARN looks like arn:aws:dynamodb:eu-west-1:123456789012:table/Orders")),
        };
    }
    if is_table_name(text) {
        return Ok(());
    }
    Err(Refusal::new(format!("{text:?} cannot be a table name"))
        .help("a DynamoDB table name has 3 to 255 characters, each a letter, a digit, `_`, `.` or `-`"))
}

fn url(text: &str) -> Result<()> {
    let refusal = || Refusal::expected(&Kind::Url, text);
    let (scheme, rest) =
        text.split_once("://").ok_or_else(|| refusal().help("begin with http:// or https://"))?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(refusal().help("only http:// and https:// are possible"));
    }
    if rest.contains('@') {
        return Err(Refusal::new("an endpoint URL carries no credentials")
            .help("requests are signed with the AWS credential chain; use profile or role_arn"));
    }
    if rest.contains(['?', '#']) {
        return Err(refusal().help("an endpoint URL has no query and no fragment"));
    }
    if !rest.chars().all(|c| c.is_ascii_graphic()) {
        return Err(refusal());
    }
    let authority = rest.split('/').next().unwrap_or(rest);
    if is_authority(authority) { Ok(()) } else { Err(refusal()) }
}

fn role_arn(text: &str) -> Result<()> {
    match role_account(text) {
        Some(_) => Ok(()),
        None => Err(Refusal::expected(&Kind::RoleArn, text)),
    }
}

/// The alphabet and the length are those of STS AssumeRole.
fn external_id(text: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@:/-".contains(c);
    if (2..=1224).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(());
    }
    Err(Refusal::new(format!("{text:?} cannot be an external id"))
        .help("an external id has 2 to 1224 characters, each a letter, a digit or one of _+=,.@:/-"))
}

fn filter(text: &str) -> Result<()> {
    non_empty(text)?;
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_filter) => Ok(()),
        Err(error) => Err(Refusal::expected(&Kind::Filter, text).help(error.to_string())),
    }
}

fn non_empty(text: &str) -> Result<()> {
    if text.trim().is_empty() { Err(Refusal::new("must not be empty")) } else { Ok(()) }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && is_digits(text)
}

fn is_partition(text: &str) -> bool {
    text.starts_with("aws") && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>
fn is_table_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (3..=255).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            _ => return false,
        },
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    let host_ok = !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let port_ok = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    host_ok && port_ok
}
