//! Builds, watches and drains the replications of one worker.

pub mod status;
