//! The end-to-end tests.

mod cli;
