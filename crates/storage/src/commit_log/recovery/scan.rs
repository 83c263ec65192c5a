//! Walking the frames of one segment: good ones, damage, and where the log ends.
//!
//! A bad frame before the position that is known to have been durable is damage: the walk reports
//! it and goes on behind. Any other bad frame is where a crash tore the log: everything from there
//! on was never promised to anybody.

use std::io;

use bytes::Bytes;

use super::files::SegmentFile;
use super::frames::{Bad, FrameReader};
use crate::commit_log::frame::{FRAME_ALIGNMENT, FrameHeader, FrameKind};
use crate::commit_log::position::Position;

/// How far behind a torn place frames can stand that say more was durable: what the writer lets be
/// unsynced, one write, and the largest frame.
pub(crate) const UNCERTAIN_BYTES_MAX: u32 = 48 << 20;

/// What the walk meets, in order.
pub(crate) enum Met<'a> {
    Frame { offset: u32, header: &'a FrameHeader, payload: &'a Bytes },
    Damage { offset: u32, bytes: u32, header: Option<FrameHeader> },
}

/// How a segment's frames end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanEnd {
    /// The log goes on in the next segment; the offset behind the last frame.
    Ended(u32),
    /// The log ends here.
    Cut(u32),
}

/// What the walk knows and learns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knowledge {
    /// Up to here the log was durable.
    pub(crate) synced: Position,
    /// The latest life seen in the chain of frames.
    pub(crate) life: u32,
}

/// Walks the frames of `segment`; `later` are the segments behind it.
pub(crate) async fn scan(
    segment: &SegmentFile,
    later: &[SegmentFile],
    salt: u64,
    known: &mut Knowledge,
    met: &mut (dyn FnMut(Met<'_>) + Send),
) -> io::Result<ScanEnd> {
    let mut reader = segment.reader(salt);
    let mut offset = segment.first_frame();
    let mut read_again = None;
    loop {
        match reader.frame(offset, known.life).await? {
            Ok((header, payload)) => {
                known.life = header.life;
                known.synced = known.synced.max(header.synced);
                met(Met::Frame { offset, header: &header, payload: &payload });
                offset += header.frame_bytes();
                if header.kind == FrameKind::End {
                    return Ok(ScanEnd::Ended(offset));
                }
            }
            Err(bad) => {
                let at = Position::new(segment.sequence, offset);
                if at >= known.synced {
                    let promised = latest_promise(&mut reader, segment, later, salt, offset, known.life).await?;
                    known.synced = known.synced.max(promised);
                }
                if at >= known.synced {
                    return Ok(ScanEnd::Cut(offset));
                }
                // Beside a writer the place may have been read before it was written. What is known to
                // be durable by now is damage only if it is bad when it is read from here on.
                if read_again.replace(offset) != Some(offset) {
                    reader.forget();
                    continue;
                }
                match skip_damage(&mut reader, segment, offset, bad, *known, met).await? {
                    Some(next) => offset = next,
                    None => return Ok(ScanEnd::Ended(offset)),
                }
            }
        }
    }
}

/// The latest synced position that any frame behind a bad one speaks of.
async fn latest_promise(
    reader: &mut FrameReader,
    segment: &SegmentFile,
    later: &[SegmentFile],
    salt: u64,
    bad_at: u32,
    life: u32,
) -> io::Result<Position> {
    let at = Position::new(segment.sequence, bad_at);
    let to = bad_at.saturating_add(UNCERTAIN_BYTES_MAX).min(segment.capacity);
    let mut offset = bad_at + FRAME_ALIGNMENT;
    while let Some((found, header)) = reader.search(offset, to, life).await? {
        if header.synced > at {
            return Ok(header.synced);
        }
        offset = found + FRAME_ALIGNMENT;
    }
    let mut left = UNCERTAIN_BYTES_MAX - to.saturating_sub(bad_at);
    for next in later {
        let Some(header) = next.header.as_ref().filter(|header| header.life >= life) else { continue };
        let mut reader = next.reader(salt);
        let mut offset = header.header_bytes();
        let start = offset;
        while offset - start < left {
            let Some(frame) = reader.header(offset, header.life).await? else { break };
            if frame.synced > at {
                return Ok(frame.synced);
            }
            offset += frame.frame_bytes();
        }
        left = left.saturating_sub(offset - start);
    }
    Ok(Position::default())
}

/// Reports the damage at `offset` and returns where good frames go on in this segment.
async fn skip_damage(
    reader: &mut FrameReader,
    segment: &SegmentFile,
    offset: u32,
    bad: Bad,
    known: Knowledge,
    met: &mut (dyn FnMut(Met<'_>) + Send),
) -> io::Result<Option<u32>> {
    if let Bad::Payload(header) = bad {
        let next = offset.checked_add(header.frame_bytes()).filter(|next| *next <= segment.capacity);
        met(Met::Damage { offset, bytes: header.frame_bytes().min(segment.capacity - offset), header: Some(header) });
        return Ok(next);
    }
    let next = reader.search(offset + FRAME_ALIGNMENT, segment.capacity, known.life).await?.map(|(next, _)| next);
    let durable_end = if known.synced.sequence == segment.sequence { known.synced.offset } else { segment.capacity };
    let end = next.unwrap_or(durable_end).max(offset);
    met(Met::Damage { offset, bytes: end - offset, header: None });
    Ok(next)
}
