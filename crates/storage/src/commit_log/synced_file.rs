//! Up to where the log was durable when it last fell silent, in a file beside the segments.
//!
//! Frames say how far the log was durable before them, so the last ones have no later witness: bytes
//! that go bad there would pass for a torn tail. This one does not lie beside what it speaks of. Two
//! slots are written in turn, so that a write that is torn leaves the other one whole; what a slot
//! says was durable before it was written.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, File, OpenOptions};
use record::crc32c;

use super::position::Position;
use crate::wire::{FieldReader, FieldWriter};

pub(crate) const NAME: &str = "SYNCED";
const MAGIC: &[u8; 8] = b"RMQSYNC\0";
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 32;
/// Slots lie a block apart: one write never tears both.
const SLOT_STRIDE: usize = 4096;
const FILE_BYTES: usize = 2 * SLOT_STRIDE;

#[derive(Debug)]
pub(crate) struct SyncedFile {
    file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    /// Rises with every record; its parity is the slot.
    number: u64,
    recorded: Position,
}

impl SyncedFile {
    /// What the file in `dir` says; the start of the log when there is none or it is damaged.
    pub(crate) async fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Position> {
        match disk.open(&dir.join(NAME), OpenOptions::read()) {
            Ok(file) => Ok(newest(&*file).await?.map_or_else(Position::default, |(_, synced)| synced)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Position::default()),
            Err(error) => Err(error),
        }
    }

    /// Opens the file, made when absent, and records where the log goes on. Blocks.
    pub(crate) async fn open(disk: &dyn Disk, dir: &Path, synced: Position) -> io::Result<Self> {
        let path = dir.join(NAME);
        let is_new = !disk.exists(&path);
        let file = disk.open(&path, OpenOptions { create: true, ..OpenOptions::read_write() })?;
        let number = newest(&*file).await?.map_or(0, |(number, _)| number);
        if file.len()? < FILE_BYTES as u64 {
            // Its space is taken once: it can be recorded on a full disk.
            file.write_at(0, &[IoSlice::new(&[0; FILE_BYTES])]).await?;
        }
        let mut opened = Self { file, path, number, recorded: Position::default() };
        opened.record(synced).await?;
        if is_new {
            disk.sync_dir(dir)?;
        }
        Ok(opened)
    }

    pub(crate) fn recorded(&self) -> Position {
        self.recorded
    }

    /// Makes `synced` durable, which the log itself MUST be up to there.
    pub(crate) async fn record(&mut self, synced: Position) -> io::Result<()> {
        assert!(synced >= self.recorded, "what was durable stays durable");
        self.number += 1;
        let at = if self.number.is_multiple_of(2) { 0 } else { SLOT_STRIDE as u64 };
        self.file.write_at(at, &[IoSlice::new(&encode(self.number, synced))]).await?;
        self.file.sync_data().await?;
        self.recorded = synced;
        Ok(())
    }
}

async fn newest(file: &dyn File) -> io::Result<Option<(u64, Position)>> {
    let bytes = file.read_at(0, FILE_BYTES).await?;
    let slots = [0, SLOT_STRIDE].into_iter().filter_map(|at| decode(bytes.get(at..at + SLOT_BYTES)?));
    Ok(slots.max_by_key(|(number, _)| *number))
}

fn encode(number: u64, synced: Position) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    FieldWriter::new(&mut bytes).bytes(MAGIC).u32(0).u32(VERSION).u64(number).u64(synced.pack());
    let crc = crc32c(&bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, Position)> {
    let mut covered: [u8; SLOT_BYTES] = bytes.try_into().ok()?;
    covered[8..12].fill(0);
    let mut fields = FieldReader::new(bytes);
    let (magic, crc, version) = (fields.array::<8>()?, fields.u32()?, fields.u32()?);
    let found = (fields.u64()?, Position::unpack(fields.u64()?));
    (magic == *MAGIC && version == VERSION && crc == crc32c(&covered)).then_some(found)
}

#[cfg(test)]
mod tests {
    use base::disk::{SimDisk, SimDiskOptions};

    use super::*;

    #[tokio::test]
    async fn one_damaged_slot_leaves_the_one_before_it() {
        let disk = SimDisk::new(1, SimDiskOptions::default());
        let dir = Path::new("/log");
        disk.create_dir_all(dir).unwrap();
        assert_eq!(SyncedFile::read(&disk, dir).await.unwrap(), Position::default());
        let mut file = SyncedFile::open(&disk, dir, Position::new(1, 4096)).await.unwrap();
        file.record(Position::new(1, 5000)).await.unwrap();
        file.record(Position::new(2, 300)).await.unwrap();
        disk.crash();
        assert_eq!(SyncedFile::read(&disk, dir).await.unwrap(), Position::new(2, 300));
        assert_eq!(disk.contents(&dir.join(NAME)).len(), FILE_BYTES);
        disk.flip(&dir.join(NAME), SLOT_STRIDE as u64 + 20, 1);
        assert_eq!(SyncedFile::read(&disk, dir).await.unwrap(), Position::new(1, 5000));
        disk.flip(&dir.join(NAME), 20, 1);
        assert_eq!(SyncedFile::read(&disk, dir).await.unwrap(), Position::default());
    }
}
