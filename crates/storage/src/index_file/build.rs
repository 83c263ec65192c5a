//! Putting an index file together.

use std::io;
use std::ops::RangeInclusive;

use record::{BatchEntry, FileNumber, LogIndex, StreamId, TimestampMs, crc32c};

use super::format::{self, CHUNK_BATCHES, ENTRIES_PER_BLOCK, HEADER_BYTES, Header, StreamEntry};
use super::{IndexStore, SealedStream};
use crate::batch_run::RunBuilder;

/// The bytes of the file. They depend on the arguments and on what earlier files say, on nothing else.
pub(super) async fn build(
    store: &IndexStore,
    file: FileNumber,
    range: RangeInclusive<LogIndex>,
    streams: &[SealedStream],
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER_BYTES];
    let mut entries = Vec::with_capacity(streams.len());
    let mut batches = 0;
    for sealed in streams {
        check_order(&sealed.batches, &range);
        let link = link(store, file, sealed).await?;
        let mut run = RunBuilder::new(CHUNK_BATCHES);
        sealed.batches.iter().for_each(|batch| run.push(batch.clone()));
        let run = run.finish();
        entries.push(StreamEntry {
            stream: sealed.stream,
            first_offset: run.first_offset,
            next_offset: run.next_offset,
            max_timestamp: run.max_timestamp,
            running_max_timestamp: run.max_timestamp.max(link.running_max_timestamp),
            run_at: bytes.len() as u64,
            run_bytes: u32::try_from(run.bytes.len()).expect("a run is bounded by its segment"),
            run_crc: run.crc,
            batches: run.batches,
            chunks: run.chunks,
            previous: link.previous,
            jump: link.jump,
            depth: link.depth,
        });
        batches += sealed.batches.len() as u64;
        bytes.extend_from_slice(&run.bytes);
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let directory_at = bytes.len() as u64;
    let mut summary = Vec::new();
    for block in entries.chunks(ENTRIES_PER_BLOCK) {
        summary.extend_from_slice(&block[0].stream.0.to_le_bytes());
        bytes.extend_from_slice(&format::encode_block(block));
    }
    let header = Header {
        file: file.0,
        first_index: *range.start(),
        last_index: *range.end(),
        streams: entries.len() as u64,
        batches,
        directory_at,
        directory_blocks: u32::try_from(summary.len() / 8).expect("fewer blocks than streams"),
        summary_crc: crc32c(&summary),
    };
    bytes.extend_from_slice(&summary);
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(bytes)
}

fn check_order(batches: &[BatchEntry], range: &RangeInclusive<LogIndex>) {
    assert!(!batches.is_empty(), "a sealed stream has batches");
    assert!(batches.iter().all(|batch| range.contains(&batch.log_index)), "batches lie in the sealed range");
    assert!(
        batches.windows(2).all(|pair| pair[0].next_offset() <= pair[1].base_offset),
        "batches are sorted by offset"
    );
}

/// How a stream's new entry hangs on those before it.
struct Link {
    previous: u32,
    jump: u32,
    depth: u32,
    running_max_timestamp: TimestampMs,
}

/// The second pointer follows the skew-binary numbers: it jumps over two equal jumps where there
/// are two, so that every earlier file is reached in a logarithmic number of steps.
async fn link(store: &IndexStore, file: FileNumber, sealed: &SealedStream) -> io::Result<Link> {
    let SealedStream { stream, previous, oldest, .. } = *sealed;
    let first = Link { previous: 0, jump: 0, depth: 0, running_max_timestamp: TimestampMs(i64::MIN) };
    let Some(previous) = previous else { return Ok(first) };
    assert!(previous < file, "files point back");
    let Some(parent) = whole(store, previous, stream).await? else {
        // Lost: what lies before must be looked for there and be missed, not taken as absent.
        return Ok(Link { previous: previous.0, running_max_timestamp: TimestampMs(i64::MAX), ..first });
    };
    let mut jump = previous.0;
    let kept = |file: u32| if oldest.is_some_and(|oldest| file >= oldest.0) { file } else { 0 };
    // Depths count anew behind a lost file, so they may rise on the way back.
    if let Some(far) = find(store, kept(parent.jump), stream).await?
        && let Some(farther) = find(store, kept(far.jump), stream).await?
        && let Some(length) = parent.depth.checked_sub(far.depth)
        && far.depth.checked_sub(farther.depth) == Some(length)
    {
        jump = far.jump;
    }
    Ok(Link {
        previous: previous.0,
        jump,
        depth: parent.depth + 1,
        running_max_timestamp: parent.running_max_timestamp,
    })
}

async fn find(store: &IndexStore, file: u32, stream: StreamId) -> io::Result<Option<StreamEntry>> {
    match file {
        0 => Ok(None),
        file => whole(store, FileNumber(file), stream).await,
    }
}

/// A damaged file is as one that is lost: it must not keep out those that follow it.
async fn whole(store: &IndexStore, file: FileNumber, stream: StreamId) -> io::Result<Option<StreamEntry>> {
    match store.known(file, stream).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {
            tracing::error!(%error, "an earlier index file is passed over");
            Ok(None)
        }
        found => found,
    }
}
