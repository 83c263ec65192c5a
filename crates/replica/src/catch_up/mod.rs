//! How a node gets a replica of a shard whose log it cannot be given: it pulls state, and the live
//! data that the state refers to, from any member, before it starts one.
//!
//! What holds here:
//! - while a shard is installed no replica of it runs on the node: it neither votes nor
//!   acknowledges, and a marker keeps that so over restarts;
//! - the marker is durable before anything changes, and goes when state, index files and entries are;
//! - the checkpoint gets its name when all that it refers to is durable, and the log reaches it;
//! - whatever was pulled once is not pulled again, from whomever the rest comes; only the checkpoint is;
//! - a donor holds what it offered for as long as it is asked for it, with a time limit, and never
//!   more than a few at once.

mod checkpoint;
mod donor;
mod entries;
mod install;
mod pins;
mod progress;
mod pull;
pub(crate) mod wire;

pub(crate) use install::damaged_or_files;
pub use install::{InstallError, InstallParts, give_way, install, let_go, set_aside};
pub(crate) use pins::Pins;
pub use progress::{InstallPhase, InstallProgress};
pub use pull::Donor;
pub(crate) use pull::Puller;
pub use wire::Later;
