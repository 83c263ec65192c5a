//! What a hostile or broken segment can reach: the walk over its header, footer and frames.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use base::disk::File;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use record::{LogIndex, ShardId, Term};

use super::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::group::Group;
use super::position::Position;
use super::recovery::{Knowledge, Met, SegmentFile, scan};
use super::segment_header::SegmentHeader;
use crate::types::{EntryKind, LogId};

const SEQUENCE: u32 = 3;
const SALT: u64 = 5;

/// Walks `input` as a segment, and a segment made as `input` says with bytes overwritten as it says.
/// Must neither panic nor take more than bounded memory; a frame that passes is one that was written.
#[doc(hidden)]
pub fn fuzz_frames(input: &[u8]) {
    walk(Bytes::copy_from_slice(input), &mut |_, _| {});
    let mut input = Input { bytes: input };
    let (image, written) = build(&mut input);
    let mut image = image;
    while let (Some(at), Some(mask)) = (input.number(), input.byte()) {
        let at = at % image.len();
        image[at] ^= mask;
    }
    walk(Bytes::from(image), &mut |offset, payload| {
        let known = written.iter().any(|(at, bytes)| *at == offset && bytes == payload);
        assert!(known, "a frame passed that was not written");
    });
}

struct Input<'a> {
    bytes: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<usize> {
        Some(usize::from(self.byte()?) << 8 | usize::from(self.byte()?))
    }
}

/// A segment with a frame per two bytes of input, up to a zero byte; and its frames' payloads.
fn build(input: &mut Input<'_>) -> (Vec<u8>, Vec<(u32, Bytes)>) {
    let header = SegmentHeader {
        sequence: SEQUENCE,
        life: 1,
        capacity: 1 << 16,
        synced: Position::default(),
        salt: SALT,
        shards: Vec::new(),
    };
    let mut group = Group::new(0, b"");
    group.staging.extend(&header.encode());
    let mut written = Vec::new();
    while let Some(kind) = input.byte().filter(|kind| *kind != 0)
        && let Some(len) = input.byte()
        && group.end() < 1 << 15
    {
        let kind = match kind % 4 {
            0 => FrameKind::Mark,
            1 => FrameKind::Vote,
            2 => FrameKind::Purge,
            _ => FrameKind::Entry(EntryKind::Commands),
        };
        let payload = Bytes::from(vec![len; usize::from(len) * 8]);
        let synced = Position::new(SEQUENCE, group.end() / 2);
        let index = LogIndex(written.len() as u64);
        let header = FrameHeader {
            shard: ShardId(u32::from(len % 3)),
            id: LogId { term: Term(1), index },
            payload_bytes: u32::from(len) * 8,
            ..FrameHeader::bare(kind, 1, synced)
        };
        written.push((group.end(), payload.clone()));
        group.frame(SEQUENCE, SALT, header, &[payload]);
    }
    let mut image = group.staging.blocks().1.to_vec();
    image.resize(1 << 16, 0);
    (image, written)
}

fn walk(image: Bytes, met_frame: &mut (dyn FnMut(u32, &Bytes) + Send)) {
    let len = image.len();
    let file: Arc<dyn File> = Arc::new(Memory { bytes: image });
    base::task::block_on(async {
        let segment = SegmentFile::read(SEQUENCE, PathBuf::new(), file, SALT).await.expect("memory can be read");
        let mut known = Knowledge { synced: segment.synced(), life: 0 };
        let mut behind = 0;
        let end = scan(&segment, &[], SALT, &mut known, &mut |met| match met {
            Met::Frame { offset, header, payload } => {
                assert!(offset >= behind && payload.len() == header.payload_bytes as usize, "frames come in order");
                behind = offset + FRAME_HEADER_BYTES;
                assert!(behind as usize + payload.len() <= len, "a frame lies in its segment");
                met_frame(offset, payload);
            }
            Met::Damage { offset, bytes, .. } => {
                assert!(offset.checked_add(bytes).is_some(), "damage lies in its segment");
            }
        })
        .await;
        assert!(end.is_ok(), "memory can be read");
    });
}

/// A file that is only read.
#[derive(Debug)]
struct Memory {
    bytes: Bytes,
}

impl File for Memory {
    fn read_at(&self, position: u64, len: usize) -> BoxFuture<'_, io::Result<BytesMut>> {
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = start.saturating_add(len).min(self.bytes.len());
        Box::pin(async move { Ok(BytesMut::from(&self.bytes[start..end])) })
    }

    fn write_at<'a>(&'a self, _: u64, _: &'a [IoSlice<'a>]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async { Err(io::ErrorKind::ReadOnlyFilesystem.into()) })
    }

    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn warm(&self, _: u64, _: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn forget(&self, _: u64, _: u64) {}

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_what_was_written_passes(input in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_frames(&input);
        }
    }
}
