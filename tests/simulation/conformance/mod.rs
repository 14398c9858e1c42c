//! One suite of semantics for every server.
