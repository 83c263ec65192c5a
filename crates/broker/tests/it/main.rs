//! The broker on a real cluster of one node in a directory of its own, without any protocol.

mod appends;
mod configs;
mod fetch_memory;
mod fetches;
mod group_memory;
mod groups;
mod harness;
mod offsets;
mod topics;
