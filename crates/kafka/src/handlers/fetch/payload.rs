//! The batches of a response: what of them is read into memory, and how much memory that may take.
//!
//! Long ranges of files leave by sendfile and cost nothing. What lies in memory was counted by the broker; what is read
//! here because it is short is counted here, against the same share. A response that finds too little there is cut to
//! fewer batches, which a reader asks for again: it never waits, as it holds what others wait for.

use std::io;
use std::sync::Arc;

use base::disk::{File, read_exact_at};
use base::memory::{Permit, Share};
use broker::fetch::{Chunk, Slice, StoredBatch};

use super::Answer;
use crate::errors::KAFKA_STORAGE_ERROR;
use crate::wire::fetch_response::{self as write, PartitionHead, Piece};
use crate::wire::response::ResponseBuilder;

/// Ranges of files that are shorter than this are read and sent with the rest; longer ones leave by sendfile.
const SEND_FILE_BYTES_MIN: u32 = 16 << 10;

/// Short ranges that lie so close together in a file are read in one call ...
const GAP_BYTES_MAX: u64 = 4 << 10;
/// ... of at most this.
const READ_BYTES_MAX: u64 = 256 << 10;

/// What of a batch has to be read into memory.
fn short_bytes(batch: &StoredBatch) -> u64 {
    batch
        .chunks
        .iter()
        .map(|chunk| match chunk {
            Chunk::File { len, .. } if *len < SEND_FILE_BYTES_MIN => u64::from(*len),
            Chunk::File { .. } | Chunk::Memory(_) => 0,
        })
        .sum()
}

/// Takes memory for what is to be read, cutting the batches to what there is; the first batch always stays.
pub(super) fn reserve(share: &Share, answers: &mut [Answer]) -> Permit {
    let wanted: u64 = answers.iter().flat_map(|answer| &answer.batches).map(short_bytes).sum();
    let mut size = wanted;
    while size > 0 {
        if let Some(permit) = share.try_acquire(usize::try_from(size).unwrap_or(usize::MAX)) {
            if size < wanted {
                cut(answers, size);
            }
            return permit;
        }
        size /= 2;
    }
    if wanted > 0 {
        cut(answers, 0);
    }
    Permit::empty()
}

/// Leaves batches of which at most `bytes` have to be read, but always the first one.
fn cut(answers: &mut [Answer], bytes: u64) {
    let (mut left, mut is_first) = (bytes, true);
    for answer in answers {
        let mut keep = 0;
        for batch in &answer.batches {
            let short = short_bytes(batch);
            if short > left && !is_first {
                left = 0;
                break;
            }
            left = left.saturating_sub(short);
            is_first = false;
            keep += 1;
        }
        if keep < answer.batches.len() {
            answer.batches.truncate(keep);
            answer.bytes = answer.batches.iter().map(|batch| u64::from(batch.bytes)).sum();
        }
    }
}

/// Reads the short ranges of files into memory. A partition whose file cannot be read ends before that batch.
pub(super) async fn load(answers: &mut [Answer]) {
    let mut run = Run::default();
    for at in 0..answers.len() {
        for batch in 0..answers[at].batches.len() {
            for chunk in 0..answers[at].batches[batch].chunks.len() {
                let place = (at, batch, chunk);
                let Chunk::File { file, position, len, .. } = &answers[at].batches[batch].chunks[chunk] else {
                    continue;
                };
                if *len >= SEND_FILE_BYTES_MIN {
                    continue;
                }
                let (file, position, len) = (Arc::clone(file), *position, *len);
                if !run.takes(&file, position, len) {
                    std::mem::take(&mut run).read(answers).await;
                }
                run.push(file, position, len, place);
            }
        }
    }
    run.read(answers).await;
}

/// Ranges of one file that one call reads.
#[derive(Default)]
struct Run {
    file: Option<Arc<dyn File>>,
    start: u64,
    end: u64,
    ranges: Vec<(u64, u32, (usize, usize, usize))>,
}

impl Run {
    fn takes(&self, file: &Arc<dyn File>, position: u64, len: u32) -> bool {
        let Some(own) = &self.file else { return true };
        Arc::ptr_eq(own, file)
            && position >= self.end
            && position - self.end <= GAP_BYTES_MAX
            && position + u64::from(len) - self.start <= READ_BYTES_MAX
    }

    fn push(&mut self, file: Arc<dyn File>, position: u64, len: u32, place: (usize, usize, usize)) {
        if self.file.is_none() {
            (self.file, self.start) = (Some(file), position);
        }
        self.end = position + u64::from(len);
        self.ranges.push((position, len, place));
    }

    async fn read(self, answers: &mut [Answer]) {
        let Some(file) = self.file else { return };
        let bytes = match usize::try_from(self.end - self.start) {
            Ok(len) => read_exact_at(&*file, self.start, len).await,
            Err(_) => Err(io::ErrorKind::OutOfMemory.into()),
        };
        match bytes {
            Ok(bytes) => {
                let bytes = Slice::whole(bytes.freeze());
                for (position, len, (answer, batch, chunk)) in self.ranges {
                    // A partition that was cut by a failed read has fewer batches than when the range was noted.
                    let Some(batch) = answers[answer].batches.get_mut(batch) else { continue };
                    let from = usize::try_from(position - self.start).unwrap_or(usize::MAX);
                    batch.chunks[chunk] = bytes.slice(from..from + len as usize).into();
                }
            }
            Err(error) => {
                tracing::error!(%error, position = self.start, "records cannot be read");
                for (.., (answer, batch, _)) in self.ranges {
                    fail(&mut answers[answer], batch);
                }
            }
        }
    }
}

/// Ends a partition's answer before the batch that cannot be read.
fn fail(answer: &mut Answer, batch: usize) {
    answer.batches.truncate(batch);
    answer.bytes = answer.batches.iter().map(|batch| u64::from(batch.bytes)).sum();
    if answer.batches.is_empty() {
        answer.head = PartitionHead::refused(answer.head.index, KAFKA_STORAGE_ERROR, answer.head.aborted);
    }
}

/// Hands one batch to the response.
pub(super) fn append(builder: &mut ResponseBuilder, batch: StoredBatch) {
    let mut pins = Vec::new();
    let pieces: Vec<Piece> = batch
        .chunks
        .into_iter()
        .flat_map(|chunk| match chunk {
            Chunk::Memory(slices) => {
                slices.into_iter().map(|slice| Piece::Memory(slice.into_bytes())).collect::<Vec<_>>()
            }
            Chunk::File { file, position, len, pin } => {
                pins.push(pin);
                vec![Piece::File { file, position, len: len.into() }]
            }
        })
        .collect();
    write::batch(builder, batch.base_offset, batch.epoch, batch.bytes, pieces.into_iter());
    if !pins.is_empty() {
        builder.hold(pins);
    }
}
