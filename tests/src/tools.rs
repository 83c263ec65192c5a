//! Command-line tools of others, and what each of them must do with what is served: kcat and Kafka's own.
//!
//! Keeps true: a check makes what it needs under names of its own, so that all of them can share a cluster.

mod java;
mod kcat;

pub use java::JavaTools;
pub use kcat::Kcat;
