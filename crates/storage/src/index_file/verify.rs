//! Whether an index file is, in every part, what was written.

use std::io;
use std::sync::Arc;

use base::disk::{OpenOptions, read_exact_at};
use base::task::offload;
use record::{FileNumber, crc32c};

use super::IndexStore;
use super::format::{self, BLOCK_BYTES, ENTRIES_PER_BLOCK, ENTRY_BYTES, HEADER_BYTES, Header, StreamEntry};
use crate::batch_run;

impl IndexStore {
    /// Reads all of a file and compares every checksum and every count in it; its bytes. It is in memory meanwhile.
    ///
    /// # Errors
    /// `NotFound` when it is not here, `InvalidData` when something is wrong, or what the disk says.
    pub async fn verify(&self, number: FileNumber) -> io::Result<u64> {
        if !self.contains(number) {
            return Err(self.missing(number));
        }
        let (shared, store) = (Arc::clone(&self.shared), self.clone());
        offload(async move {
            let file = shared.disk.open(&shared.path(number), OpenOptions::read())?;
            let size = file.len()?;
            // The file says itself how long it is: one that replaces another may be longer.
            match read_exact_at(&*file, 0, usize::try_from(size).map_err(io::Error::other)?).await {
                Ok(contents) if is_whole(&contents, number) => Ok(size),
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
                _ => Err(store.damaged(number)),
            }
        })
        .await
    }
}

/// Whether `bytes` are the whole file of that number: every checksum is right and every batch can be read.
pub(crate) fn is_whole(bytes: &[u8], number: FileNumber) -> bool {
    check(bytes, number).is_some()
}

fn check(bytes: &[u8], number: FileNumber) -> Option<()> {
    let header = Header::decode(bytes).filter(|header| header.file == number.0)?;
    let (summary_at, summary_bytes) = header.summary()?;
    let summary_at = usize::try_from(summary_at).ok()?;
    if summary_at.checked_add(summary_bytes)? != bytes.len() {
        return None;
    }
    let summary = &bytes[summary_at..];
    holds(crc32c(summary) == header.summary_crc)?;
    let directory_at = usize::try_from(header.directory_at).ok()?;
    let directory = bytes.get(directory_at..summary_at)?;
    // Runs lie one behind the other, so that no byte before the directory is in none of them.
    let mut run_at = HEADER_BYTES;
    let (mut left, mut batches) = (header.streams, 0_u64);
    let mut before = None;
    for (block, first) in directory.chunks_exact(BLOCK_BYTES).zip(summary.chunks_exact(8)) {
        holds(format::block_is_whole(block))?;
        let count = usize::try_from(left.min(ENTRIES_PER_BLOCK as u64)).ok()?;
        for place in 0..count {
            let entry = StreamEntry::decode(&block[place * ENTRY_BYTES..])?;
            holds(place > 0 || entry.stream.0.to_le_bytes() == first)?;
            holds(before.is_none_or(|before| before < entry.stream))?;
            before = Some(entry.stream);
            holds(entry.run_at == run_at as u64)?;
            let run = bytes.get(run_at..run_at.checked_add(entry.run_bytes as usize)?)?;
            batch_run::check(run, entry.run(), |_| Some(()))?;
            run_at += run.len();
            batches += u64::from(entry.batches);
        }
        left -= count as u64;
    }
    let padding = bytes.get(run_at..directory_at)?;
    holds(padding.len() < 8 && padding.iter().all(|byte| *byte == 0))?;
    holds(left == 0 && batches == header.batches)
}

fn holds(condition: bool) -> Option<()> {
    condition.then_some(())
}
