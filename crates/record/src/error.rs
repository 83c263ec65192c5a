//! What can be wrong with a batch that someone sent: one variant per cause, so that a protocol can choose its code.

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("there is no batch")]
    Empty,
    #[error("{bytes} bytes are fewer than the header of a batch")]
    TooShort { bytes: usize },
    #[error("record format {magic} is not supported, only 2 is")]
    UnsupportedMagic { magic: i8 },
    #[error("the length field {length} is smaller than a batch's header")]
    InvalidLength { length: i32 },
    #[error("the batch says {stated} bytes but {present} are there")]
    Truncated { stated: usize, present: usize },
    #[error("{bytes} bytes follow the batch: exactly one batch is allowed")]
    TrailingBytes { bytes: usize },
    #[error("the CRC is {computed:#010x} but the batch says {stated:#010x}")]
    Crc { stated: u32, computed: u32 },
    #[error("the base offset is {base_offset} but must be 0")]
    BaseOffset { base_offset: i64 },
    #[error("there is no compression of number {number}")]
    UnknownCompression { number: u8 },
    #[error("a client may not write control records")]
    Control,
    #[error("the record count {count} is not above zero")]
    InvalidCount { count: i32 },
    #[error("the last offset delta {last_offset_delta} does not fit {count} records")]
    InconsistentCount { count: i32, last_offset_delta: i32 },
    #[error("producer id {producer_id} has the sequence {sequence}")]
    InvalidSequence { producer_id: i64, sequence: i32 },
    #[error("producer id {producer_id} has the epoch {epoch}")]
    InvalidProducerEpoch { producer_id: i64, epoch: i16 },
    #[error("record {record} is malformed: {cause}")]
    Record { record: u32, cause: RecordError },
    #[error("{bytes} bytes follow the last record")]
    BytesAfterRecords { bytes: usize },
    #[error("the {compression} data is corrupt")]
    Compression { compression: &'static str },
    #[error("the records take more than {bytes_max} bytes when decompressed")]
    TooLarge { bytes_max: usize },
}

/// Why one record of a batch is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a variable-length number is cut off or too long")]
    Varint,
    #[error("it ends before its last field")]
    Short,
    #[error("the length {length} is not possible")]
    Length { length: i64 },
    #[error("its fields take {used} bytes but its length says {stated}")]
    LengthMismatch { stated: usize, used: usize },
    #[error("the offset delta is {actual} but must be {expected}")]
    OffsetDelta { expected: u32, actual: i64 },
    #[error("the header count {count} is not possible")]
    HeaderCount { count: i64 },
    #[error("a header's key is null")]
    NullHeaderKey,
    #[error("the timestamp is out of range")]
    Timestamp,
}
