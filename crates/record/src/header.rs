//! The fixed part of a Kafka record batch of magic 2, read from and written to bytes; nothing here looks past it.

use crate::{BatchError, LeaderEpoch, ProducerEpoch, ProducerId, Sequence, StreamOffset, TimestampMs};

/// Bytes of a batch before its records.
pub const BATCH_OVERHEAD: usize = 61;
/// Base offset, length and leader epoch: outside the CRC, patched when a batch is read.
pub const BATCH_PREFIX: usize = 16;
/// Base offset and length: what the length field does not count.
pub const LENGTH_OVERHEAD: usize = 12;
/// Where the bytes that the CRC covers begin: at the attributes.
pub const CRC_START: usize = 21;
/// The only format of a batch that is stored.
pub const MAGIC: i8 = 2;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// All of them in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in a batch's attributes.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The name, as clients configure it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The compression of that number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Whose clock the timestamps are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The 16 flag bits of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    #[must_use]
    pub const fn new(compression: Compression, timestamp_type: TimestampType) -> Self {
        Self(compression.number() as i16).with_timestamp_type(timestamp_type)
    }

    /// `None` for one of the three numbers that name no compression.
    #[must_use]
    #[expect(clippy::cast_sign_loss, reason = "three bits")]
    pub const fn compression(self) -> Option<Compression> {
        Compression::from_number((self.0 & Self::COMPRESSION) as u8)
    }

    /// The three bits as they stand.
    #[must_use]
    #[expect(clippy::cast_sign_loss, reason = "three bits")]
    pub const fn compression_number(self) -> u8 {
        (self.0 & Self::COMPRESSION) as u8
    }

    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    #[must_use]
    pub const fn transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    #[must_use]
    pub const fn control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        match timestamp_type {
            TimestampType::CreateTime => Self(self.0 & !Self::LOG_APPEND_TIME),
            TimestampType::LogAppendTime => Self(self.0 | Self::LOG_APPEND_TIME),
        }
    }

    #[must_use]
    pub const fn with_transactional(self) -> Self {
        Self(self.0 | Self::TRANSACTIONAL)
    }

    #[must_use]
    pub const fn with_control(self) -> Self {
        Self(self.0 | Self::CONTROL)
    }

    /// The base timestamp is that from which on records without a value may go (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    #[must_use]
    pub const fn with_delete_horizon(self) -> Self {
        Self(self.0 | Self::DELETE_HORIZON)
    }

    /// Those of the batch without any record.
    #[must_use]
    pub const fn emptied(self) -> Self {
        Self(self.0 & !(Self::COMPRESSION | Self::DELETE_HORIZON))
    }
}

/// The 61 bytes before the records, field by field.
///
/// ```text
///  0        8      12      16    17   21         23          27             35            43          51     53       57      61
///  | base    | length| epoch |magic| crc |attributes| last off. | base timestamp| max timestamp| producer  | epoch| base   | count | records ..
///  | offset  |       |       |     |     |          | delta     |               |              | id        |      | seq.   |       |
///                                          |---------------------------- covered by the CRC32C ----------------------------------->
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: StreamOffset,
    /// Bytes behind the length field.
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: Sequence,
    pub record_count: i32,
}

fn take<const N: usize>(bytes: &[u8; BATCH_OVERHEAD], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

impl BatchHeader {
    /// Reads the fields; checks only that the bytes are there and that the format is that of magic 2, without which
    /// the fields mean something else.
    pub fn parse(batch: &[u8]) -> Result<Self, BatchError> {
        if let Some(&magic) = batch.get(BATCH_PREFIX)
            && magic.cast_signed() != MAGIC
        {
            return Err(BatchError::UnsupportedMagic { magic: magic.cast_signed() });
        }
        let Some(fixed) = batch.first_chunk::<BATCH_OVERHEAD>() else {
            return Err(BatchError::TooShort { bytes: batch.len() });
        };
        Ok(Self {
            base_offset: StreamOffset(i64::from_be_bytes(take(fixed, 0))),
            batch_length: i32::from_be_bytes(take(fixed, 8)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(take(fixed, 12))),
            magic: fixed[16].cast_signed(),
            crc: u32::from_be_bytes(take(fixed, 17)),
            attributes: Attributes(i16::from_be_bytes(take(fixed, 21))),
            last_offset_delta: i32::from_be_bytes(take(fixed, 23)),
            base_timestamp: TimestampMs(i64::from_be_bytes(take(fixed, 27))),
            max_timestamp: TimestampMs(i64::from_be_bytes(take(fixed, 35))),
            producer_id: ProducerId(i64::from_be_bytes(take(fixed, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(take(fixed, 51))),
            base_sequence: Sequence(i32::from_be_bytes(take(fixed, 53))),
            record_count: i32::from_be_bytes(take(fixed, 57)),
        })
    }

    /// The bytes of the fields, the CRC as it stands in `crc`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BATCH_OVERHEAD] {
        let mut bytes = [0; BATCH_OVERHEAD];
        bytes[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        bytes[16] = self.magic.cast_unsigned();
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.0.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// From when on records without a value may go, where that was decided.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Bytes of the whole batch, or `None` if the length field is negative.
    #[must_use]
    pub fn total_bytes(&self) -> Option<usize> {
        usize::try_from(self.batch_length).ok().map(|length| length + LENGTH_OVERHEAD)
    }
}

/// The first 16 bytes of a batch as a reader gets them. They are outside the CRC, so that a batch can be sent with
/// the offset and epoch that the log gave it and all its other bytes as the producer wrote them.
#[must_use]
pub fn read_prefix(base_offset: StreamOffset, batch_length: i32, epoch: LeaderEpoch) -> [u8; BATCH_PREFIX] {
    let mut prefix = [0; BATCH_PREFIX];
    prefix[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    prefix[8..12].copy_from_slice(&batch_length.to_be_bytes());
    prefix[12..16].copy_from_slice(&epoch.0.to_be_bytes());
    prefix
}
