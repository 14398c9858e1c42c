//! What a person should do about a failed call of a command. Unlike the daemon's advice it never says that the call
//! is tried again, and it names the permission that is missing.

use crate::dynamo;
use crate::fault::{self, Fault, Stage};

/// What to do about `error`, met at `stage`.
pub(super) fn advice(error: &dynamo::Error, stage: Stage) -> String {
    match error.fault {
        Fault::Denied => denied(error),
        Fault::Transient | Fault::Unanswered => {
            "check the region, `endpoint_url`, the network and the service's health".to_owned()
        }
        Fault::Protocol => {
            "something else than DynamoDB answers there: check `endpoint_url` and proxies".to_owned()
        }
        Fault::Throttled(_) | Fault::Conflict | Fault::ExpiredIterator => "try again in a moment".to_owned(),
        Fault::Trimmed | Fault::Missing | Fault::Invalid => fault::advice(error.fault, stage).to_owned(),
    }
}

fn denied(error: &dynamo::Error) -> String {
    match error.code.as_deref() {
        Some("AccessDeniedException" | "AccessDenied" | "NotAuthorized") => {
            format!("allow `{}` on it for these credentials", action(error.operation))
        }
        Some("RequestTimeTooSkewed" | "RequestExpired") => "set this host's clock right".to_owned(),
        Some(_) => {
            "the service does not accept these credentials: check that they are current and of this partition"
                .to_owned()
        }
        None if error.message.contains("AssumeRole") || error.message.contains("assume role") => {
            "allow `sts:AssumeRole` on `role_arn` for the starting credentials, and check the role's trust policy and \
             `external_id`"
                .to_owned()
        }
        None => "give credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, `profile` in the configuration, or an \
                 instance, task or pod role"
            .to_owned(),
    }
}

/// The name of an API operation's permission.
pub(super) fn action(operation: &str) -> String {
    format!("dynamodb:{operation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied_with(code: Option<&str>, message: &str) -> String {
        let error = dynamo::Error {
            code: code.map(str::to_owned),
            ..dynamo::Error::new("DescribeStream", Fault::Denied, message)
        };
        advice(&error, Stage::Discover)
    }

    #[test]
    fn a_missing_permission_is_named() {
        assert!(denied_with(Some("AccessDeniedException"), "no").contains("`dynamodb:DescribeStream`"));
    }

    #[test]
    fn missing_credentials_a_role_and_bad_credentials_are_told_apart() {
        assert!(denied_with(None, "no providers in chain").contains("AWS_ACCESS_KEY_ID"));
        assert!(denied_with(None, "AssumeRole: not authorized").contains("`sts:AssumeRole`"));
        assert!(denied_with(Some("ExpiredTokenException"), "expired").contains("current"));
    }

    #[test]
    fn a_command_is_never_told_to_wait_for_a_retry() {
        for fault in [Fault::Transient, Fault::Unanswered, Fault::Protocol] {
            let error = dynamo::Error::new("DescribeTable", fault, "");
            assert!(!advice(&error, Stage::Discover).contains("tried again"), "{fault:?}");
        }
    }
}
