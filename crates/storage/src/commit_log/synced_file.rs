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
use crate::passing::failed_write;
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
    disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    /// None before the first record.
    file: Option<Arc<dyn File>>,
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

    /// The file in `dir`, made with the first record when it is absent.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, path: dir.join(NAME), file: None, number: 0, recorded: Position::default() }
    }

    pub(crate) fn recorded(&self) -> Position {
        self.recorded
    }

    /// Makes `synced` durable, which the log itself MUST be up to there. After an error that passes the file says what
    /// it said before, and the call may be made again. Blocks.
    pub(crate) async fn record(&mut self, synced: Position) -> io::Result<()> {
        assert!(synced >= self.recorded, "what was durable stays durable");
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => self.open().await?,
        };
        let number = self.number + 1;
        let at = if number.is_multiple_of(2) { 0 } else { SLOT_STRIDE as u64 };
        file.write_at(at, &[IoSlice::new(&encode(number, synced))]).await.map_err(failed_write)?;
        file.sync_data().await.map_err(failed_write)?;
        // Not before: the slot that a failed write may have torn is the one to be written again.
        (self.number, self.recorded) = (number, synced);
        Ok(())
    }

    async fn open(&mut self) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(&self.path, OpenOptions { create: true, ..OpenOptions::read_write() })?;
        self.number = newest(&*file).await?.map_or(0, |(number, _)| number);
        if file.len()? < FILE_BYTES as u64 {
            // Its space is taken once: it can be recorded on a full disk.
            file.write_at(0, &[IoSlice::new(&[0; FILE_BYTES])]).await.map_err(failed_write)?;
        }
        self.disk.sync_dir(self.path.parent().expect("a file in a folder")).map_err(failed_write)?;
        self.file = Some(Arc::clone(&file));
        Ok(file)
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
        let mut file = SyncedFile::new(Arc::new(disk.clone()), dir);
        file.record(Position::new(1, 4096)).await.unwrap();
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

    #[tokio::test]
    async fn a_record_that_finds_no_room_takes_nothing_back() {
        let disk = SimDisk::new(1, SimDiskOptions { capacity_bytes: 0, ..SimDiskOptions::default() });
        let dir = Path::new("/log");
        disk.create_dir_all(dir).unwrap();
        let mut file = SyncedFile::new(Arc::new(disk.clone()), dir);
        let error = file.record(Position::new(1, 4096)).await.unwrap_err();
        assert!(crate::is_full(&error) && !crate::is_lasting(&error), "{error}");
        assert_eq!(SyncedFile::read(&disk, dir).await.unwrap(), Position::default());
        disk.set_options(|options| options.capacity_bytes = u64::MAX);
        file.record(Position::new(1, 5000)).await.unwrap();
        disk.crash();
        assert_eq!(SyncedFile::read(&disk, dir).await.unwrap(), Position::new(1, 5000));
    }
}
