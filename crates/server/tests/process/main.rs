//! The binary as a process: its configuration, its life, and its commands on a running broker.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::disallowed_methods, reason = "the files are the test's, not a node's")]

mod commands;
mod common;
mod configuration;
mod stop;
