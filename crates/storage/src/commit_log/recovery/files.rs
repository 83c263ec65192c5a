//! The segment files of a directory, with what their headers and footers say.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, File, OpenOptions};

use crate::commit_log::footer::{Footer, TRAILER_BYTES, Trailer};
use crate::commit_log::position::{Position, parse_segment_name};
use crate::commit_log::recovery::frames::FrameReader;
use crate::commit_log::recovery::scan::UNCERTAIN_BYTES_MAX;
use crate::commit_log::segment_header::{HEADER_ALIGNMENT, SegmentHeader};

/// A file with a segment's name.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) sequence: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) capacity: u32,
    pub(crate) header: Option<SegmentHeader>,
    pub(crate) footer: Option<Footer>,
    /// Frames of a segment whose header is damaged.
    headless: Option<Headless>,
}

/// What is found behind a header that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Headless {
    first_frame: u32,
    synced: Position,
}

impl SegmentFile {
    /// Reads what the file says of itself.
    pub(crate) async fn read(sequence: u32, path: PathBuf, file: Arc<dyn File>, salt: u64) -> io::Result<Self> {
        // A longer file than any segment has: what lies behind is not ours.
        let capacity = u32::try_from(file.len()?.min(1 << 30)).expect("at most 1 GiB");
        let header = read_header(&*file, sequence).await?;
        let footer = read_footer(&*file, sequence, capacity).await?;
        let mut found = Self { sequence, path, file, capacity, header, footer, headless: None };
        if found.header.is_none() {
            found.headless = find_headless(&found, salt).await?;
        }
        Ok(found)
    }

    /// Whether anything in it says that it was used in this life of the file.
    pub(crate) fn is_used(&self) -> bool {
        // Without a header only what says that it was durable counts: the rest may be torn.
        self.header.is_some() || self.footer.is_some() || self.synced() > self.start()
    }

    /// Up to where the log is known to have been durable, by this header and footer alone.
    pub(crate) fn synced(&self) -> Position {
        let header = self.header.as_ref().map(|header| header.synced);
        let footer = self.footer.as_ref().map(|footer| Position::new(self.sequence, footer.data_end));
        let headless = self.headless.map(|found| found.synced);
        header.max(footer).max(headless).unwrap_or_default()
    }

    /// Where the first frame stands.
    pub(crate) fn first_frame(&self) -> u32 {
        match (&self.header, self.headless) {
            (Some(header), _) => header.header_bytes(),
            (None, Some(found)) => found.first_frame,
            (None, None) => HEADER_ALIGNMENT,
        }
    }

    pub(crate) fn start(&self) -> Position {
        Position::new(self.sequence, 0)
    }

    pub(crate) fn salt(&self, otherwise: u64) -> u64 {
        self.header.as_ref().map_or(otherwise, |header| header.salt)
    }

    pub(crate) fn reader(&self, salt: u64) -> FrameReader {
        FrameReader::new(Arc::clone(&self.file), self.sequence, self.salt(salt), self.capacity)
    }
}

/// All segment files in `dir`, in order. `salt` is that of segments whose header is damaged.
pub(crate) async fn list(disk: &dyn Disk, dir: &Path, options: OpenOptions, salt: u64) -> io::Result<Vec<SegmentFile>> {
    let mut files = Vec::new();
    for entry in disk.read_dir(dir)? {
        let Some(sequence) = parse_segment_name(&entry.name).filter(|_| !entry.is_dir) else { continue };
        let path = dir.join(&entry.name);
        let file = match disk.open(&path, options) {
            Ok(file) => file,
            // Beside a running broker a file may have been recycled since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        files.push(SegmentFile::read(sequence, path, file, salt).await?);
    }
    files.sort_by_key(|file| file.sequence);
    Ok(files)
}

/// The header of a segment file, if it has one of that number.
pub(crate) async fn read_header(file: &dyn File, sequence: u32) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = file.read_at(0, HEADER_ALIGNMENT as usize).await?;
    let Some(claimed) = SegmentHeader::claimed_bytes(&bytes) else { return Ok(None) };
    if claimed as usize > bytes.len() {
        bytes = file.read_at(0, claimed as usize).await?;
    }
    Ok(SegmentHeader::decode(&bytes, sequence))
}

async fn read_footer(file: &dyn File, sequence: u32, capacity: u32) -> io::Result<Option<Footer>> {
    let Some(trailer_at) = capacity.checked_sub(TRAILER_BYTES) else { return Ok(None) };
    let bytes = file.read_at(u64::from(trailer_at), TRAILER_BYTES as usize).await?;
    let Some(trailer) = Trailer::decode(&bytes, sequence, capacity) else { return Ok(None) };
    let (at, len) = trailer.directory();
    let directory = file.read_at(at, len).await?;
    Ok(trailer.footer(&directory))
}

/// Headers take whole pages; with more shards than fit this many, a damaged one hides its segment.
const HEADER_PAGES_MAX: u32 = 16;

async fn find_headless(file: &SegmentFile, salt: u64) -> io::Result<Option<Headless>> {
    let mut reader = file.reader(salt);
    for page in 1..=HEADER_PAGES_MAX {
        let first_frame = page * HEADER_ALIGNMENT;
        let mut synced = Position::default();
        let mut offset = first_frame;
        // The first frames were written with the header; those behind the first sync tell more.
        while offset - first_frame < UNCERTAIN_BYTES_MAX {
            let Some(frame) = reader.header(offset, 0).await? else { break };
            synced = synced.max(frame.synced);
            offset += frame.frame_bytes();
        }
        if offset > first_frame {
            return Ok(Some(Headless { first_frame, synced }));
        }
    }
    Ok(None)
}
