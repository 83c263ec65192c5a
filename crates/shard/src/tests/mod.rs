//! Tests of the shard as a whole, through the same doors that the layers above use.

mod append;
mod assertions;
mod checkpoint;
mod delete_records;
mod encoding;
mod fitting;
mod groups;
mod harness;
mod metadata;
mod moves;
mod nodes;
mod properties;
mod put_compacted;
mod put_object;
mod seal;
mod slot_orders;
mod slots;
mod strategies;
