//! A whole node in this process and a client that speaks in raw requests: what clients of Kafka depend on.
//!
//! Tests are named after what is proved. Those that begin with `e` and a number prove that entry of the list of
//! pitfalls that other brokers fell into; the lists stand at the top of each module.

mod clients;
mod cluster;
mod compaction;
mod configs;
mod connections;
mod copies;
mod fetch;
mod groups;
mod handshake;
mod input;
mod list_offsets;
mod moving;
mod nodes;
mod offsets;
mod produce;
mod producing;
mod retention;
mod sequences;
mod sessions;
mod several;
mod shortage;
mod slots;
mod support;
mod topics;
