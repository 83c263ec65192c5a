//! Tests of batches as a whole: against batches that Kafka's own client library wrote, and against what goes wrong.

mod building;
mod compacting;
mod golden;
mod malformed;
mod patching;
mod reading;
