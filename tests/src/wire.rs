//! Kafka's protocol by hand: requests as bytes, one blocking connection, record batches. Independent of the
//! broker's own codecs, so that both can't be wrong in the same way.
//!
//! Only the plain (not flexible) encodings are written here; the clients exercise the newer ones.

pub mod admin;
pub mod batch;
pub mod bytes;
pub mod changes;
pub mod connection;
pub mod groups;
pub mod produce_requests;
pub mod records;
pub mod requests;

pub use batch::{Batch, ReadRecord};
pub use bytes::{Reader, Writer};
pub use connection::Connection;
pub use records::FullRecord;
