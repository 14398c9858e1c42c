//! What all tests stand on: a [`World`] of tables in several regions behind the emulator, workers that replicate
//! them, a load that changes them, and a judge that compares them.
//!
//! With `DYNAMIRROR_TEST_ENDPOINT` the emulator stands before the server at that address instead of the embedded
//! one, and [`Options::direct`] takes even the emulator out of the way.

pub(crate) mod compare;
pub(crate) mod load;
pub(crate) mod order;
pub(crate) mod process;
pub(crate) mod shape;
pub(crate) mod target;
pub(crate) mod value;
pub(crate) mod wait;
pub(crate) mod worker;
pub(crate) mod world;

use tokio::task::JoinHandle;

pub(crate) use load::Load;
pub(crate) use order::Order;
pub(crate) use shape::{Kind, Shape};
pub(crate) use value::Item;
pub(crate) use worker::Running;
pub(crate) use world::{Heartbeats, Options, World};

/// Runs something beside the test, which waits for it or kills it.
#[expect(
    clippy::disallowed_methods,
    reason = "the test owns the handle, and must be able to kill what it stands for"
)]
pub(crate) fn beside<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}
