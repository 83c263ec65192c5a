//! What the integration tests and the benchmarks stand on: real brokers as processes, real clients from their
//! registries, and raw requests on a socket.
//!
//! Keeps true: nothing is written outside cargo's target folder and the temporary folders of a running test; a
//! missing toolchain is said loudly and, where `CI` is set, is a failure; no process outlives the value that owns it.

pub mod alike;
pub mod broker;
pub mod checker;
pub mod clients;
pub mod cluster;
pub mod damage;
pub mod foreign;
pub mod history;
pub mod install;
pub mod ledger;
pub mod limited_disk;
pub mod mishaps;
pub mod nemesis;
pub mod network;
pub mod old_data;
pub mod places;
pub mod process;
pub mod restarts;
pub mod served;
pub mod space;
pub mod toolchain;
pub mod tools;
pub mod upgrade;
pub mod wire;
pub mod workload;
