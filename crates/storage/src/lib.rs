//! The files of a node: the commit log that all its shards share, checkpoints, sealed indexes, and
//! the data directory that holds them.
//!
//! Knows entries, votes and bytes. Absent here: any consensus library, any command, any protocol.

mod batch_run;
mod block_cache;
pub mod checkpoint;
pub mod commit_log;
pub mod data_dir;
pub mod index_file;
pub mod inspect;
mod install_marker;
pub mod object;
mod passing;
mod types;
pub mod verify;
mod wire;

#[doc(hidden)]
pub use commit_log::fuzz_frames;
pub use commit_log::{
    AppendCompletion, Backing, Chunk, CommitLog, Covered, Damage, DamagedEntry, DiskState, Failure, LogState,
    OpenError, Options, Reading, Recovered, Refused, SegmentPin, ShardLog, Slice, Slices, Stats,
};
#[doc(hidden)]
pub use index_file::fuzz_index_file;
pub use install_marker::{InstallMarker, InstallStage, Installing};
#[doc(hidden)]
pub use object::fuzz_object;
pub use passing::{is_full, is_lasting, is_unreadable};
pub use types::{Buffers, Entry, EntryKind, EntryMeta, LogId, Payload, Vote};
