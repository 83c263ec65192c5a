//! Several nodes in one process, and what moves between their shards.

mod behind;
mod belonging;
mod full_disk;
mod halfway;
mod left_over;
mod lost;
mod moves;
mod new_shards;
mod nodes;
mod slots;
mod support;
mod switch;
mod twins;
