//! Whole clusters on simulated time, disks, network and chance: one seed decides everything.
//!
//! In reading order: [`plan`] draws from the seed what is to happen, [`machine`] is a computer with its
//! disk, its clock and the real broker on it, [`client`] speaks the Kafka protocol, [`load`] writes,
//! reads and commits, [`faults`] break things, [`invariants`] say what must hold, one file each,
//! [`watch`] looks into the running nodes, [`world`] is all of it and [`run`] a seed from its start to
//! its verdict.
//!
//! What is kept true: nothing here sleeps, draws a number or opens anything but through `base`, so two
//! runs of one seed in fresh processes have one trace; a verdict "passed" says that enough was
//! acknowledged and enough was broken.
//!
//! Absent: knowledge of how the crates below work. What is asked of them is what clients and operators
//! may ask, and digests and leadership, which replicas tell.

pub mod client;
pub mod faults;
pub mod invariants;
pub mod load;
pub mod machine;
pub mod plan;
pub mod run;
pub mod watch;
pub mod world;
