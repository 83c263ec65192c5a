//! Bytes to requests and responses to bytes.
//!
//! Two ways in: [`produce`] and [`fetch`] read their requests themselves, without copying and without strings; the
//! others come from the crate `kafka-protocol`, whose decoders allocate what a count promises, so [`guard`] walks
//! each body first. Nothing here panics on any input, and what a decoded request may occupy is bounded.

pub(crate) mod commit;
pub(crate) mod fetch;
pub(crate) mod fetch_response;
pub(crate) mod guard;
pub(crate) mod log_dirs;
pub(crate) mod produce;
pub(crate) mod read;
pub(crate) mod response;
pub(crate) mod schema;
pub(crate) mod space_tags;
pub(crate) mod write;

#[cfg(test)]
mod tests;
