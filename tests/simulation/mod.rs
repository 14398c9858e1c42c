//! Whole workers in one process on paused time, against a model of DynamoDB.

mod conformance;
mod model;
