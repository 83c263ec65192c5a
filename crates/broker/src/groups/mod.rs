//! The coordinator of classic consumer groups.
//!
//! A group lives on the shard that its name hashes to; the leader of that shard coordinates it. What members were told
//! is in the shard, so that a group goes on where it was after a restart, or on the shard that its slot moved to; only session timers begin anew. A group is
//! in memory while it has members or gave out ids. Its rules are in [`machine`], which is pure; the rest here is about durability,
//! order and time.

mod admin;
mod api;
mod group;
mod in_use;
mod leads;
mod machine;
mod memory;
mod offsets;
mod service;
mod stored;
mod subscription;
mod tenure;
mod watch;

pub use api::*;
pub use service::Groups;
