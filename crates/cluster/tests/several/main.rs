//! Several nodes in one process, and what moves between their shards.

mod moves;
mod nodes;
mod slots;
mod support;
