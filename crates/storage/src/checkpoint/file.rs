//! One checkpoint file: a header, chunks, an end that counts them.

use std::io::{self, IoSlice};
use std::sync::Arc;

use base::disk::{File, read_exact_at};
use bytes::Bytes;
use record::{LogIndex, Term, crc32c, crc32c_of_two};

use super::CHUNK_BYTES_MAX;
use crate::passing::failed_write;
use crate::types::LogId;
use crate::wire::{FieldReader, FieldWriter};

pub(super) const HEADER_BYTES: usize = 56;
pub(super) const CHUNK_HEADER_BYTES: usize = 16;

const MAGIC: &[u8; 8] = b"RMQCKPT\0";
const VERSION: u32 = 1;
/// Stands where a chunk's length would: the file ends here.
const END: u32 = u32::MAX;

/// What a checkpoint covers. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// The whole state.
    Base = 1,
    /// What changed since its parent.
    Delta = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// Rises with every checkpoint of the shard.
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// The checkpoint before; 0 for a base.
    pub(super) parent: u64,
    pub(super) at: LogId,
}

pub(super) fn name(number: u64, kind: Kind) -> String {
    let extension = match kind {
        Kind::Base => "base",
        Kind::Delta => "delta",
    };
    format!("{number:012}.{extension}")
}

pub(super) fn temporary_name(number: u64) -> String {
    format!("{number:012}.new")
}

pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".new").is_some_and(|digits| digits.parse::<u64>().is_ok())
}

pub(super) fn parse_name(text: &str) -> Option<(u64, Kind)> {
    let (digits, extension) = text.split_once('.')?;
    let kind = match extension {
        "base" => Kind::Base,
        "delta" => Kind::Delta,
        _ => return None,
    };
    let number = digits.parse().ok()?;
    (name(number, kind) == text).then_some((number, kind))
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        FieldWriter::new(&mut bytes)
            .bytes(MAGIC)
            .u32(0)
            .u32(VERSION)
            .u32(self.kind as u32)
            .u32(0)
            .u64(self.number)
            .u64(self.parent)
            .u64(self.at.term.0)
            .u64(self.at.index.0);
        let crc = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        let mut fields = FieldReader::new(bytes);
        let magic = fields.array::<8>()?;
        let crc = fields.u32()?;
        let mut covered = *bytes;
        covered[8..12].fill(0);
        let version = fields.u32()?;
        if magic != *MAGIC || crc != crc32c(&covered) || version != VERSION {
            return None;
        }
        let kind = match fields.u32()? {
            1 => Kind::Base,
            2 => Kind::Delta,
            _ => return None,
        };
        let _reserved = fields.u32()?;
        let (number, parent) = (fields.u64()?, fields.u64()?);
        let at = LogId { term: Term(fields.u64()?), index: LogIndex(fields.u64()?) };
        Some(Self { number, kind, parent, at })
    }
}

/// The header of a file whose name says `number` and `kind`.
pub(super) async fn read_header(file: &dyn File, number: u64, kind: Kind) -> io::Result<Option<FileHeader>> {
    let bytes = file.read_at(0, HEADER_BYTES).await?;
    Ok(FileHeader::decode(&bytes).filter(|header| header.number == number && header.kind == kind))
}

/// Checksum of a chunk: of its bytes and of where it belongs.
fn chunk_crc(number: u64, place: u64, bytes: &[u8]) -> u32 {
    let mut belongs = [0; 16];
    FieldWriter::new(&mut belongs).u64(number).u64(place);
    crc32c_of_two(&belongs, bytes)
}

#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<dyn File>,
    number: u64,
    position: u64,
    chunks: u64,
}

impl Writer {
    pub(super) async fn begin(file: Arc<dyn File>, header: &FileHeader) -> io::Result<Self> {
        file.write_at(0, &[IoSlice::new(&header.encode())]).await.map_err(failed_write)?;
        Ok(Self { file, number: header.number, position: HEADER_BYTES as u64, chunks: 0 })
    }

    pub(super) async fn chunk(&mut self, chunk: &Bytes) -> io::Result<()> {
        let len = u32::try_from(chunk.len()).expect("a chunk is bounded");
        self.frame(len, chunk).await?;
        self.chunks += 1;
        Ok(())
    }

    async fn frame(&mut self, len: u32, bytes: &[u8]) -> io::Result<()> {
        let mut head = [0; CHUNK_HEADER_BYTES];
        FieldWriter::new(&mut head).u32(len).u32(chunk_crc(self.number, self.chunks, bytes)).u64(self.chunks);
        self.file.write_at(self.position, &[IoSlice::new(&head), IoSlice::new(bytes)]).await.map_err(failed_write)?;
        self.position += (head.len() + bytes.len()) as u64;
        Ok(())
    }

    /// Ends the file and makes it durable; its size.
    pub(super) async fn finish(mut self) -> io::Result<u64> {
        self.frame(END, &[]).await?;
        self.file.sync_data().await.map_err(failed_write)?;
        Ok(self.position)
    }
}

#[derive(Debug)]
pub(super) struct Reader {
    file: Arc<dyn File>,
    number: u64,
    position: u64,
    chunks: u64,
    ended: bool,
}

impl Reader {
    pub(super) fn new(file: Arc<dyn File>, header: FileHeader) -> Self {
        Self { file, number: header.number, position: HEADER_BYTES as u64, chunks: 0, ended: false }
    }

    /// The next chunk; none behind the last one.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a checkpoint is damaged");
        let head = read_exact_at(&*self.file, self.position, CHUNK_HEADER_BYTES).await?;
        let mut fields = FieldReader::new(&head);
        let fields = (fields.u32(), fields.u32(), fields.u64());
        let (Some(len), Some(crc), Some(place)) = fields else { return Err(damaged()) };
        let bytes = match len {
            END => Bytes::new(),
            len if len as usize <= CHUNK_BYTES_MAX => {
                read_exact_at(&*self.file, self.position + CHUNK_HEADER_BYTES as u64, len as usize).await?.freeze()
            }
            _ => return Err(damaged()),
        };
        if place != self.chunks || crc != chunk_crc(self.number, place, &bytes) {
            return Err(damaged());
        }
        self.ended = len == END;
        self.position += (CHUNK_HEADER_BYTES + bytes.len()) as u64;
        self.chunks += 1;
        Ok((!self.ended).then_some(bytes))
    }
}

/// Whether every chunk is what was written, to the end.
pub(super) async fn is_whole(file: &Arc<dyn File>, header: &FileHeader) -> io::Result<bool> {
    let mut reader = Reader::new(Arc::clone(file), *header);
    loop {
        match reader.next().await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
}
