//! The command line as a person and a service manager meet it: the built program, its output and its exit codes.

mod copy;
mod daemon;
mod desired;
mod heartbeats;
mod offline;
mod online;
pub(crate) mod program;
mod schema;
mod town;
mod verify;
