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

    /// What was read is read anew when it is asked for.
    pub(crate) fn forget(&mut self) {
        self.window = Bytes::new();
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
            let window = self.window_from(offset).await?;
            let Some(last) = window.len().checked_sub(FRAME_HEADER_BYTES as usize) else { break };
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
            // To the first place whose header the window cuts in two.
            let places = u32::try_from(last).expect("a window is small") / FRAME_ALIGNMENT + 1;
            offset += places * FRAME_ALIGNMENT;
        }
        Ok(None)
    }

    /// What is there from `offset` on: the rest of the window while that holds a header, else a new
    /// one. Less than a header only at the end of the file.
    async fn window_from(&mut self, offset: u32) -> io::Result<Bytes> {
        let start = offset.checked_sub(self.window_at).map(|start| start as usize);
        match start.filter(|start| start + FRAME_HEADER_BYTES as usize <= self.window.len()) {
            Some(start) => Ok(self.window.slice(start..)),
            None => self.bytes(offset, READ_BYTES).await,
        }
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

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use base::disk::{Disk, OpenOptions, SimDisk, SimDiskOptions};

    use super::*;
    use crate::commit_log::frame::FrameKind;
    use crate::commit_log::group::Group;

    const SEQUENCE: u32 = 3;
    const SALT: u64 = 9;

    #[tokio::test]
    async fn a_search_from_frame_to_frame_reads_each_window_once() {
        let capacity = 3 << 20;
        let mut group = Group::new(4096, b"");
        let mut expected = Vec::new();
        while group.end() < capacity - (64 << 10) {
            expected.push(group.end());
            // Of lengths that let headers lie across the ends of windows.
            let payload = [Bytes::from(vec![1; 100 + expected.len() % 300])];
            let payload_bytes = u32::try_from(payload[0].len()).unwrap();
            let header = FrameHeader { payload_bytes, ..FrameHeader::bare(FrameKind::Mark, 1, Position::default()) };
            group.frame(SEQUENCE, SALT, header, &payload);
        }
        let disk = SimDisk::new(1, SimDiskOptions::default());
        disk.create_dir_all(Path::new("/log")).unwrap();
        let file = disk.open(Path::new("/log/segment"), OpenOptions::create_new()).unwrap();
        file.set_len(u64::from(capacity)).unwrap();
        file.write_at(4096, &[IoSlice::new(group.staging.blocks().1)]).await.unwrap();

        let mut reader = FrameReader::new(file, SEQUENCE, SALT, capacity);
        let (mut found, mut windows, mut window_at) = (Vec::new(), 0, u32::MAX);
        let mut offset = 0;
        while let Some((place, _)) = reader.search(offset, capacity, 1).await.unwrap() {
            found.push(place);
            offset = place + FRAME_ALIGNMENT;
            windows += u32::from(reader.window_at != window_at);
            window_at = reader.window_at;
        }
        assert_eq!(found, expected);
        assert!(windows <= 4, "{windows} windows of 1 MiB for 3 MiB");
        assert_eq!(reader.search(offset, capacity, 1).await.unwrap().map(|(place, _)| place), None);
        assert_eq!(reader.search(0, capacity, 2).await.unwrap().map(|(place, _)| place), None, "of no later life");
    }
}
