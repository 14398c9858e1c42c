//! Tells whether a replica is equal to its source.

pub mod digest;
pub mod join;
pub mod signature;

pub use digest::{Digest, Digester};
pub use signature::Signature;
