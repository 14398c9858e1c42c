//! Kinds of values and their defaults: how a value is written, not yet what it means.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::print;

/// The kind of a value: decides the TOML type it is written in, and how it is checked.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Text,
    Name,
    Region,
    TableName,
    Url,
    RoleArn,
    ExternalId,
    Duration(RangeInclusive<Duration>),
    Size(RangeInclusive<u64>),
    Integer(RangeInclusive<u64>),
    Flag,
    Guard,
    Attribute,
    Listen,
    LogFormat,
    Filter,
    Start,
    HeartbeatMode,
    CopyMode,
}

/// What holds when a key is not written.
#[derive(Debug, Clone)]
pub(super) enum Preset {
    /// It must be written; the text is an example.
    Required(&'static str),
    /// Nothing; the example and what the absence means.
    Absent(&'static str, &'static str),
    Text(&'static str),
    Duration(Duration),
    Size(u64),
    Integer(u64),
    Flag(bool),
    Listen(SocketAddr),
}

impl Kind {
    /// What a wrong value is told to be.
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Kind::Text | Kind::ExternalId => "a string",
            Kind::Name => "a name such as \"orders\"",
            Kind::Region => "a region such as \"eu-west-1\"",
            Kind::TableName => "a table name such as \"Orders\", or a table ARN",
            Kind::Url => "a URL such as \"http://127.0.0.1:8000\"",
            Kind::RoleArn => "a role ARN such as \"arn:aws:iam::123456789012:role/replicator\"",
            Kind::Duration(_) => "a duration such as \"15s\" or \"2m30s\"",
            Kind::Size(_) => "a size with a unit, such as \"32MiB\"",
            Kind::Integer(_) => "a whole number",
            Kind::Flag => "true or false",
            Kind::Guard => "\"none\" or \"sequence\"",
            Kind::Attribute => "an attribute's name such as \"dynamirror:sequence\"",
            Kind::Listen => "an address and port such as \"127.0.0.1:9464\"",
            Kind::LogFormat => "\"auto\", \"text\" or \"json\"",
            Kind::Filter => "a log filter such as \"info\" or \"info,dynamirror::lease=debug\"",
            Kind::HeartbeatMode => "\"off\", \"dedicated\" or \"in-table\"",
            Kind::CopyMode => "\"off\" or \"auto\"",
            Kind::Start => "\"trim_horizon\", \"latest\" or a time such as \"2026-11-20T10:00:00Z\"",
        }
    }

    /// The type column of the reference.
    pub(super) fn describe(&self) -> String {
        match self {
            Kind::Text | Kind::ExternalId | Kind::Filter => "text".to_owned(),
            Kind::Name => "name".to_owned(),
            Kind::Region => "region".to_owned(),
            Kind::TableName => "table name or ARN".to_owned(),
            Kind::Url => "URL".to_owned(),
            Kind::RoleArn => "role ARN".to_owned(),
            Kind::Duration(range) => {
                format!("duration, {} to {}", print::duration(*range.start()), print::duration(*range.end()))
            }
            Kind::Size(range) => {
                format!("size, {} to {}", print::size(*range.start()), print::size(*range.end()))
            }
            Kind::Integer(range) => format!("number, {} to {}", range.start(), range.end()),
            Kind::Flag => "true or false".to_owned(),
            Kind::Guard => "`none`, `sequence`".to_owned(),
            Kind::Attribute => "attribute name".to_owned(),
            Kind::Listen => "address:port".to_owned(),
            Kind::LogFormat => "`auto`, `text`, `json`".to_owned(),
            Kind::HeartbeatMode => "`off`, `dedicated`, `in-table`".to_owned(),
            Kind::CopyMode => "`off`, `auto`".to_owned(),
            Kind::Start => "`trim_horizon`, `latest`, RFC 3339 time".to_owned(),
        }
    }
}

impl Preset {
    /// The default as it would be written, without quotes; `None` where there is none.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Preset::Required(_) | Preset::Absent(..) => None,
            Preset::Text(text) => Some((*text).to_owned()),
            Preset::Duration(value) => Some(print::duration(*value)),
            Preset::Size(value) => Some(print::size(*value)),
            Preset::Integer(value) => Some(value.to_string()),
            Preset::Flag(value) => Some(value.to_string()),
            Preset::Listen(value) => Some(value.to_string()),
        }
    }
}
