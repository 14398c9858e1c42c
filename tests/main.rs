//! The end-to-end tests: the real worker, or the real program, between tables that a test changes.

mod cli;
mod copies;
mod direct;
mod faults;
mod gaps;
mod guard;
mod heartbeats;
mod layers;
mod leases;
mod orders;
mod outages;
mod parked;
mod process;
mod repairs;
mod replicate;
mod schemas;
mod shards;
mod soak;
mod starts;
mod support;
mod verify;
