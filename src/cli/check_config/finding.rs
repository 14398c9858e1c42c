//! What came of one check, and the checks that need no service: a replica against its source.

use std::fmt;

use serde::Serialize;

use crate::cli::advice::advice;
use crate::cli::exit::Code;
use crate::config::Endpoint;
use crate::dynamo::{self, KeyAttribute, Table};
use crate::fault::Stage;

/// What came of one check, a line in text.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// The setting that it is about, such as `replications[0].source`.
    setting: String,
    /// The table in words.
    table: String,
    #[serde(flatten)]
    result: Result,
}

/// Good, or what to do.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(super) enum Result {
    /// As it should be.
    Ok {
        /// What was found.
        message: String,
    },
    /// Not as it should be.
    Failed {
        /// What is wrong.
        message: String,
        /// What a person should do about it.
        advice: String,
        /// What the process exits with for this alone.
        exit_code: u8,
        #[serde(skip)]
        code: Code,
    },
}

// === impl Finding ===

impl Finding {
    /// A result of a table.
    pub(super) fn new(setting: &str, table: impl fmt::Display, result: Result) -> Self {
        Self { setting: setting.to_owned(), table: table.to_string(), result }
    }

    /// Whether it is as it should be.
    pub(super) const fn is_ok(&self) -> bool {
        matches!(self.result, Result::Ok { .. })
    }

    /// What the process exits with for this alone.
    pub(super) const fn code(&self) -> Code {
        match self.result {
            Result::Ok { .. } => Code::Success,
            Result::Failed { code, .. } => code,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, table, result } = self;
        match result {
            Result::Ok { message } => write!(f, "ok       {setting}: {table}: {message}"),
            Result::Failed { message, advice, .. } => {
                write!(f, "failed   {setting}: {table}: {message}; {advice}")
            }
        }
    }
}

// === impl Result ===

impl Result {
    /// As it should be.
    pub(super) fn ok(message: impl Into<String>) -> Self {
        Self::Ok { message: message.into() }
    }

    /// Wrong in the configuration, or in what it names.
    pub(super) fn wrong(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::failed(message, advice, Code::Config)
    }

    /// A call failed.
    pub(super) fn call(error: &dynamo::Error, stage: Stage) -> Self {
        Self::failed(error.to_string(), advice(error, stage), Code::of_fault(error.fault))
    }

    /// With its own code.
    pub(super) fn failed(message: impl Into<String>, advice: impl Into<String>, code: Code) -> Self {
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Failed {
            message: one_line(message.into()),
            advice: one_line(advice.into()),
            exit_code: code as u8,
            code,
        }
    }
}

/// A replica must not be its own source, and needs the same key.
pub(super) fn compare(source: (&Table, &Endpoint), replica: (&Table, &Endpoint)) -> Result {
    if is_same(source, replica) {
        return Result::wrong(
            format!("it is the source itself ({})", source.0.arn),
            "name another table, region or account",
        );
    }
    if source.0.key != replica.0.key {
        return Result::wrong(
            format!("its key is {}, the source's is {}", spell(&replica.0.key), spell(&source.0.key)),
            "create a table with the source's key, and name that",
        );
    }
    Result::ok(format!("has the source's key, {}", spell(&source.0.key)))
}

/// Equal names mean the same table, except on two servers that are not AWS: those all make up the same account.
fn is_same(left: (&Table, &Endpoint), right: (&Table, &Endpoint)) -> bool {
    let made_up = |endpoint: &Endpoint| {
        let url = endpoint.endpoint_url.clone()?;
        (!url.contains(".amazonaws.com")).then_some(url)
    };
    let addresses = (made_up(left.1), made_up(right.1));
    let two_servers = matches!(addresses, (Some(left), Some(right)) if left != right);
    left.0.arn == right.0.arn && !two_servers
}

/// A key as a person writes it.
pub(super) fn spell(key: &[KeyAttribute]) -> String {
    let part = |part: &KeyAttribute| format!("`{}` ({})", part.name, part.kind);
    key.iter().map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn table(arn: &str, key: &[(&str, &str)]) -> Table {
        let part =
            |(name, kind): &(&str, &str)| KeyAttribute { name: (*name).to_owned(), kind: (*kind).to_owned() };
        Table {
            arn: arn.to_owned(),
            usable: true,
            key: key.iter().map(part).collect(),
            stream: None,
            ..Table::default()
        }
    }

    fn at(url: Option<&str>) -> Endpoint {
        Endpoint {
            region: "eu-west-1".to_owned(),
            endpoint_url: url.map(str::to_owned),
            profile: None,
            role_arn: None,
            external_id: None,
        }
    }

    const ARN: &str = "arn:aws:dynamodb:eu-west-1:111122223333:table/Orders";

    #[test]
    fn a_replica_that_is_its_source_is_found_by_its_arn() {
        let orders = table(ARN, &[("id", "S")]);
        let vpc = Some("https://vpce-1.dynamodb.eu-west-1.vpce.amazonaws.com");
        let found = compare((&orders, &at(None)), (&orders, &at(vpc)));
        assert!(
            matches!(&found, Result::Failed { message, code: Code::Config, .. } if message.contains("source itself")),
            "{found:?}"
        );
        let (one, other) = (at(Some("http://127.0.0.1:1")), at(Some("http://127.0.0.1:2")));
        assert!(matches!(compare((&orders, &one), (&orders, &other)), Result::Ok { .. }));
        assert!(matches!(compare((&orders, &one), (&orders, &one)), Result::Failed { .. }));
    }

    #[test]
    fn another_key_is_told_in_full() {
        let source = table(ARN, &[("id", "S"), ("at", "N")]);
        let replica = table("arn:other", &[("id", "S"), ("at", "S")]);
        let found = compare((&source, &at(None)), (&replica, &at(None)));
        assert!(
            matches!(&found, Result::Failed { message, .. }
                if message == "its key is `id` (S), `at` (S), the source's is `id` (S), `at` (N)"),
            "{found:?}"
        );
    }

    #[test]
    fn a_finding_is_one_line_that_names_the_permission() {
        let error = dynamo::Error {
            code: Some("AccessDeniedException".to_owned()),
            ..dynamo::Error::new("DescribeStream", Fault::Denied, "not\n  authorized")
        };
        let finding = Finding::new(
            "replications[0].source",
            "source table `Orders`",
            Result::call(&error, Stage::Discover),
        );
        assert_eq!(
            finding.to_string(),
            "failed   replications[0].source: source table `Orders`: DescribeStream: AccessDeniedException: \
             not authorized; allow `dynamodb:DescribeStream` on it for these credentials"
        );
        assert_eq!(finding.code(), Code::Denied);
        let json = serde_json::to_value(&finding).expect("plain data");
        assert_eq!(json["result"], "failed");
        assert_eq!(json["exit_code"], 77);
    }
}
