//! How a command ends: one table from what went wrong to an exit code, and the words for it.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::advice::advice;
use crate::fault::{Fault, Stage};
use crate::replica::parked;
use crate::telemetry::{self, logs};
use crate::{config, control, dynamo, http, schema, supervisor, verify};

/// An exit code. Those from 65 on are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Success = 0,
    /// The answer is no: not healthy, or something needs attention.
    Negative = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Rows of the control table cannot be understood.
    Data = 65,
    /// A service cannot be reached.
    Unavailable = 69,
    /// A bug.
    Bug = 70,
    /// It may go well another time.
    Temporary = 75,
    /// Credentials are missing, or do not allow it.
    Denied = 77,
    /// The configuration, or what it names, is wrong.
    Config = 78,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Errors),
    /// Arguments that are well-formed and make no sense here.
    #[error("{0}")]
    Usage(String),
    /// The log settings are wrong.
    #[error(transparent)]
    Logs(#[from] logs::Error),
    /// Nothing can be served.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The control table cannot be used.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// A table cannot be described or made.
    #[error(transparent)]
    Schema(#[from] schema::Error),
    /// Parked changes cannot be used.
    #[error(transparent)]
    Parked(#[from] parked::Error),
    /// The worker cannot be built.
    #[error(transparent)]
    Supervisor(#[from] supervisor::Error),
    /// The metrics cannot be offered.
    #[error(transparent)]
    Metrics(#[from] telemetry::Error),
    /// A call to DynamoDB failed.
    #[error("{action}")]
    Call {
        /// What was tried, and with which table.
        action: String,
        /// What a person should do about it.
        advice: String,
        /// Why.
        #[source]
        source: Box<dynamo::Error>,
    },
    /// The drain was cut short; what was not applied is read again by the next worker.
    #[error("drain within {0:?}: leases run out and the next worker goes on from the checkpoints")]
    Grace(Duration),
    /// Nobody does what was asked for.
    #[error("{0}")]
    Stalled(String),
    /// Two tables cannot be compared.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// A file that the command line names cannot be used.
    #[error("{action} `{}`", path.display())]
    File {
        /// What was tried, such as `write the undo file`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The demo could not be run to its end.
    #[cfg(feature = "emulator")]
    #[error(transparent)]
    Demo(#[from] crate::demo::Error),
    /// What a command was about to change was changed by somebody else.
    #[error("{0}: it was changed meanwhile: look again, and repeat the command if it is still wanted")]
    Changed(String),
    /// Standard output or input.
    #[error("use standard input or output")]
    Stream(#[source] io::Error),
    /// The operating system does not give what is needed.
    #[error("get threads, signals and sockets from the system")]
    System(#[source] io::Error),
}

// === impl Code ===

impl Code {
    /// Every code, in the order of the numbers.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::Negative,
        Self::Usage,
        Self::Data,
        Self::Unavailable,
        Self::Bug,
        Self::Temporary,
        Self::Denied,
        Self::Config,
    ];

    /// What it means, for the help.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done",
            Self::Negative => "the answer is no: not healthy, or something needs attention",
            Self::Usage => "the command line is wrong",
            Self::Data => "rows of the control table cannot be understood",
            Self::Unavailable => "a service cannot be reached",
            Self::Bug => "a bug in this program",
            Self::Temporary => {
                "try again: the port is taken, a drain was cut short (nothing is lost), or another was faster"
            }
            Self::Denied => "credentials are missing, or do not allow it",
            Self::Config => "the configuration, or a table that it names, is wrong",
        }
    }

    /// What a failed call to DynamoDB means for a command that made it.
    pub const fn of_fault(fault: Fault) -> Self {
        match fault {
            Fault::Denied => Self::Denied,
            Fault::Missing | Fault::Invalid => Self::Config,
            Fault::Throttled(_) | Fault::Conflict | Fault::ExpiredIterator | Fault::Trimmed => {
                Self::Temporary
            }
            Fault::Transient | Fault::Unanswered | Fault::Protocol => Self::Unavailable,
        }
    }

    /// The one to exit with for several: first what no other attempt mends.
    pub fn gravest(codes: impl Iterator<Item = Self>) -> Self {
        let gravity = |code: &Self| match code {
            Self::Success => 0,
            Self::Negative => 1,
            Self::Temporary => 2,
            Self::Unavailable => 3,
            Self::Denied => 4,
            Self::Data => 5,
            Self::Usage => 6,
            Self::Config => 7,
            Self::Bug => 8,
        };
        codes.max_by_key(gravity).unwrap_or(Self::Success)
    }

    const fn of_control(error: &control::Error) -> Self {
        match error {
            control::Error::Call { source, .. } => Self::of_fault(source.fault),
            control::Error::Layout { .. } => Self::Config,
            control::Error::Row { .. } | control::Error::Malformed { .. } => Self::Data,
        }
    }

    const fn of_verify(error: &verify::Error) -> Self {
        match error {
            verify::Error::Read { source, .. } => Self::of_fault(source.fault),
            verify::Error::Key { .. } => Self::Config,
            verify::Error::Barrier(error) => Self::of_control(error),
            // With more room it goes well.
            verify::Error::Join(_) => Self::Temporary,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The codes and their meanings, for the end of the help.
pub(super) fn table() -> String {
    let mut text = "Exit codes:".to_owned();
    for code in Code::ALL {
        text.push_str(&format!("\n  {:>2}  {}", code as u8, code.meaning()));
    }
    text
}

// === impl Failure ===

impl Failure {
    /// The code that the process exits with.
    pub fn code(&self) -> Code {
        match self {
            Self::Config(_) | Self::Logs(_) => Code::Config,
            Self::Usage(_) => Code::Usage,
            #[cfg(feature = "emulator")]
            Self::Demo(crate::demo::Error::Logs(_)) => Code::Config,
            #[cfg(feature = "emulator")]
            Self::Demo(_) => Code::Negative,
            // Whoever has the port may be about to end, such as this program's predecessor.
            Self::Http(http::Error::Bind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
                Code::Temporary
            }
            Self::Http(http::Error::Bind { .. }) => Code::Config,
            Self::Http(http::Error::Start { .. }) | Self::System(_) => Code::Temporary,
            Self::Control(error) | Self::Supervisor(supervisor::Error::Control(error)) => {
                Code::of_control(error)
            }
            Self::Parked(parked::Error::Control(error)) => Code::of_control(error),
            Self::Parked(parked::Error::Key { .. } | parked::Error::Payload { .. }) => Code::Data,
            Self::Schema(schema::Error::Call { source, .. }) => Code::of_fault(source.fault),
            Self::Schema(schema::Error::NoSource(_)) => Code::Config,
            Self::Schema(schema::Error::NotReady { .. }) => Code::Temporary,
            Self::Metrics(_) => Code::Bug,
            Self::Verify(error) => Code::of_verify(error),
            Self::File { .. } => Code::Usage,
            Self::Call { source, .. } => Code::of_fault(source.fault),
            // The reader has seen enough, as `head` has.
            Self::Stream(error) if error.kind() == io::ErrorKind::BrokenPipe => Code::Success,
            Self::Stream(_) | Self::Grace(_) | Self::Changed(_) | Self::Stalled(_) => Code::Temporary,
        }
    }

    /// Tells the person on standard error.
    pub(super) fn report(&self) {
        match self {
            Self::Stream(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Self::Config(errors) => eprintln!("error: {errors} Exit code {}.", self.code() as u8),
            Self::Usage(text) => eprintln!("error: {text}"),
            _ => {
                eprintln!("error: failed to {}", chain(self));
                if let Some(advice) = self.advice() {
                    eprintln!("  = {advice}");
                }
            }
        }
    }

    fn advice(&self) -> Option<String> {
        let control = match self {
            Self::Call { advice, .. } => return Some(advice.clone()),
            Self::Schema(schema::Error::Call { source, .. }) => return Some(advice(source, Stage::Discover)),
            Self::Control(error) | Self::Supervisor(supervisor::Error::Control(error)) => error,
            Self::Parked(parked::Error::Control(error)) => error,
            Self::Verify(verify::Error::Barrier(error)) => error,
            Self::Verify(verify::Error::Read { source, .. }) => return Some(advice(source, Stage::Discover)),
            _ => return None,
        };
        match control {
            control::Error::Call { source, .. } => Some(advice(source, Stage::Control)),
            control::Error::Row { .. } | control::Error::Malformed { .. } => {
                Some("check that `control.table` names this fleet's own table".to_owned())
            }
            // It says so itself.
            control::Error::Layout { .. } => None,
        }
    }
}

/// An error and its causes in words, without repetitions. A failed call says everything itself: what the SDK adds
/// beneath it is the same in longer words.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error;
    while let Some(cause) = at.source() {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        if cause.is::<dynamo::Error>() || cause.is::<Box<dynamo::Error>>() {
            break;
        }
        at = cause;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Width;

    fn call(fault: Fault) -> Failure {
        Failure::Call {
            action: "describe `Orders`".to_owned(),
            advice: "look".to_owned(),
            source: Box::new(dynamo::Error::new("DescribeTable", fault, "it said no")),
        }
    }

    #[test]
    fn every_fault_has_its_code() {
        for (fault, code) in [
            (Fault::Throttled(Width::Table), 75),
            (Fault::Transient, 69),
            (Fault::Unanswered, 69),
            (Fault::Missing, 78),
            (Fault::Denied, 77),
            (Fault::Conflict, 75),
            (Fault::Invalid, 78),
            (Fault::Protocol, 69),
        ] {
            assert_eq!(call(fault).code() as u8, code, "{fault:?}");
        }
    }

    #[test]
    fn failures_of_the_control_table_are_told_apart() {
        let layout = || control::Error::Layout { table: "control".to_owned(), found: "2".to_owned() };
        assert_eq!(Failure::Control(layout()).code(), Code::Config);
        assert_eq!(Failure::Supervisor(supervisor::Error::Control(layout())).code(), Code::Config);
        let row = control::Error::Row {
            table: "control".to_owned(),
            row: "orders shard/1".to_owned(),
            attribute: "state",
        };
        assert_eq!(Failure::Parked(parked::Error::Control(row)).code(), Code::Data);
        let unreachable = control::Error::Call {
            table: "control".to_owned(),
            source: Box::new(dynamo::Error::new("PutItem", Fault::Transient, "refused")),
        };
        assert_eq!(Failure::Control(unreachable).code(), Code::Unavailable);
    }

    #[test]
    fn a_taken_port_may_be_free_later_and_a_foreign_address_is_a_mistake() {
        let bind = |kind: io::ErrorKind| {
            Failure::Http(http::Error::Bind {
                address: "127.0.0.1:1".parse().expect("an address"),
                source: kind.into(),
            })
        };
        assert_eq!(bind(io::ErrorKind::AddrInUse).code(), Code::Temporary);
        assert_eq!(bind(io::ErrorKind::AddrNotAvailable).code(), Code::Config);
    }

    #[test]
    fn a_mistake_is_graver_than_a_denial_and_that_than_an_outage() {
        let all = [Code::Unavailable, Code::Denied, Code::Success, Code::Config];
        assert_eq!(Code::gravest(all.into_iter()), Code::Config);
        assert_eq!(Code::gravest(all[..3].iter().copied()), Code::Denied);
        assert_eq!(Code::gravest(std::iter::empty()), Code::Success);
    }

    #[test]
    fn a_closed_output_is_no_failure() {
        let closed = Failure::Stream(io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.code(), Code::Success);
        let full = Failure::Stream(io::ErrorKind::StorageFull.into());
        assert_eq!(full.code(), Code::Temporary);
    }

    #[test]
    fn causes_are_told_once() {
        assert_eq!(chain(&call(Fault::Denied)), "describe `Orders`: DescribeTable: it said no");
    }
}
