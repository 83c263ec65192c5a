//! Time, chance, disk, network and tasks: everything a process takes from outside.
//!
//! No other crate reads a clock, a random source, a file or a socket by itself, so that one
//! program can own all of them and replay a run from a seed. Timers, tasks and channels are
//! tokio's, reached through this crate; wall clock, randomness, disk and network are traits with
//! the real implementation here. `docs/adr/0001-simulation.md` gives the reasons.
//!
//! Absent here: anything that knows what is stored or sent.

pub mod causes;
#[cfg(feature = "simulation")]
pub mod chance;
pub mod disk;
pub mod env;
pub mod hash;
pub mod memory;
pub mod net;
pub mod planted;
pub mod queue;
pub mod random;
pub mod task;
pub mod time;
#[cfg(feature = "simulation")]
pub mod trace;
pub mod units;

pub use env::Env;
