//! Reading a segment's frames one after another, and finding the next one behind a bad place.

use std::io;
use std::sync::Arc;

use base::disk::File;
use bytes::Bytes;
use record::crc32c;

use crate::commit_log::frame::{FRAME_ALIGNMENT, FRAME_HEADER_BYTES, FrameHeader, may_be_header};
use crate::commit_log::position::Position;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Reads frames of one segment file through a moving window.
pub(crate) struct FrameReader {
    file: Arc<dyn File>,
    sequence: u32,
    salt: u64,
    capacity: u32,
    window: Bytes,
    window_at: u32,
}

/// Why there is no good frame at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bad {
    /// No header that was written here in this life or a later one.
    Header,
    /// The header is good and the payload is not what it says.
    Payload(FrameHeader),
}

impl FrameReader {
    pub(crate) fn new(file: Arc<dyn File>, sequence: u32, salt: u64, capacity: u32) -> Self {
        Self { file, sequence, salt, capacity, window: Bytes::new(), window_at: 0 }
    }

    /// The frame at `offset`, written in life `life` or later.
    pub(crate) async fn frame(&mut self, offset: u32, life: u32) -> io::Result<Result<(FrameHeader, Bytes), Bad>> {
        let Some(header) = self.header(offset, life).await? else { return Ok(Err(Bad::Header)) };
        let payload_at = offset + FRAME_HEADER_BYTES;
        let payload = self.bytes(payload_at, header.payload_bytes as usize).await?;
        if payload.len() < header.payload_bytes as usize || crc32c(&payload) != header.payload_crc {
            return Ok(Err(Bad::Payload(header)));
        }
        Ok(Ok((header, payload)))
    }

    /// The header at `offset`, whatever its payload is.
    pub(crate) async fn header(&mut self, offset: u32, life: u32) -> io::Result<Option<FrameHeader>> {
        let bytes = self.bytes(offset, FRAME_HEADER_BYTES as usize).await?;
        let header = FrameHeader::decode(&bytes, Position::new(self.sequence, offset), self.salt);
        Ok(header.filter(|header| header.life >= life))
    }

    /// The first good header in `from..to`.
    pub(crate) async fn search(&mut self, from: u32, to: u32, life: u32) -> io::Result<Option<(u32, FrameHeader)>> {
        let mut offset = from;
        let to = to.min(self.capacity);
        while offset < to {
            // One header more than a window, so that none is cut in two.
            let window = self.bytes(offset, READ_BYTES).await?;
            let last = window.len().saturating_sub(FRAME_HEADER_BYTES as usize);
            for at in (0..=last).step_by(FRAME_ALIGNMENT as usize) {
                let place = offset + u32::try_from(at).expect("a window is small");
                if place >= to {
                    break;
                }
                if may_be_header(&window[at..])
                    && let Some(header) =
                        FrameHeader::decode(&window[at..], Position::new(self.sequence, place), self.salt)
                    && header.life >= life
                {
                    return Ok(Some((place, header)));
                }
            }
            if window.len() < READ_BYTES {
                break;
            }
            offset += u32::try_from(last).expect("a window is small") & !(FRAME_ALIGNMENT - 1);
        }
        Ok(None)
    }

    /// Up to `len` bytes at `offset`; fewer at the end of the file.
    async fn bytes(&mut self, offset: u32, len: usize) -> io::Result<Bytes> {
        let len = len.min(self.capacity.saturating_sub(offset) as usize);
        let start = offset.checked_sub(self.window_at).map(|start| start as usize);
        if let Some(start) = start.filter(|start| start + len <= self.window.len()) {
            return Ok(self.window.slice(start..start + len));
        }
        let want = len.max(READ_BYTES).min(self.capacity.saturating_sub(offset) as usize);
        self.window = self.file.read_at(u64::from(offset), want).await?.freeze();
        self.window_at = offset;
        Ok(self.window.slice(..len.min(self.window.len())))
    }
}
