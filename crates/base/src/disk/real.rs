//! The operating system's files.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{DirEntry, DirLock, Disk, File, Free, OpenOptions};
use crate::task;

/// Buffers that one pwritev(2) takes (`IOV_MAX` of Linux).
const BUFFERS_PER_WRITE_MAX: usize = 1024;

/// Distance of the probes that look whether a range is in the page cache; a quarter of the usual
/// largest read-ahead, so that a hole between two probes is rare and small.
const WARM_PROBE_BYTES: u64 = 128 << 10;

/// Bytes read at once to bring a range into the page cache.
const WARM_READ_BYTES: usize = 256 << 10;

/// The operating system's file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: Arc<fs::File>,
}

#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl DirLock for RealLock {}

#[expect(clippy::disallowed_methods, reason = "this is the one place that touches files")]
impl Disk for RealDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        let mut open = fs::OpenOptions::new();
        open.read(options.read).write(options.write).truncate(options.truncate);
        open.create(options.create).create_new(options.create_new);
        if options.direct {
            let flags = i32::try_from(OFlags::DIRECT.bits()).expect("open flags fit the type of open(2)");
            match open.custom_flags(flags).open(path) {
                // File systems without direct writes say so with EINVAL.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    open.custom_flags(0);
                }
                opened => return Ok(Arc::new(RealFile { file: Arc::new(opened?) })),
            }
        }
        Ok(Arc::new(RealFile { file: Arc::new(open.open(path)?) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> =
            path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        fs::create_dir_all(path)?;
        for dir in missing {
            match dir.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent)?,
                _ => self.sync_dir(Path::new("."))?,
            }
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name, len: if is_dir { 0 } else { metadata.len() }, is_dir });
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<Free> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Free {
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

impl File for RealFile {
    fn read_at(&self, position: u64, len: usize) -> BoxFuture<'_, io::Result<BytesMut>> {
        Box::pin(async move {
            let mut bytes = BytesMut::zeroed(len);
            let cached = read_cached(&self.file, position, &mut bytes)?;
            if cached == len {
                return Ok(bytes);
            }
            let file = Arc::clone(&self.file);
            task::blocking(move || {
                let read = cached + read_full(&file, position + to_u64(cached), &mut bytes[cached..])?;
                bytes.truncate(read);
                Ok(bytes)
            })
            .await
        })
    }

    fn read_into(
        &self,
        position: u64,
        mut memory: Vec<u8>,
        range: Range<usize>,
    ) -> BoxFuture<'_, io::Result<(Vec<u8>, usize)>> {
        let file = Arc::clone(&self.file);
        Box::pin(task::blocking(move || {
            let read = read_full(&file, position, &mut memory[range])?;
            Ok((memory, read))
        }))
    }

    fn write_at<'a>(&'a self, position: u64, buffers: &'a [IoSlice<'a>]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { write_all(&self.file, position, buffers) })
    }

    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move { rustix::fs::fdatasync(&self.file).map_err(Into::into) })
    }

    fn warm(&self, position: u64, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            if len == 0 || is_cached(&self.file, position, len)? {
                return Ok(());
            }
            let file = Arc::clone(&self.file);
            task::blocking(move || {
                let mut scratch = vec![0; WARM_READ_BYTES];
                let (mut at, end) = (position, position.saturating_add(len));
                while at < end {
                    let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(WARM_READ_BYTES);
                    let read = read_full(&file, at, &mut scratch[..want])?;
                    if read < want {
                        break;
                    }
                    at += to_u64(read);
                }
                Ok(())
            })
            .await
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), position, len) {
            // A file system that cannot take space ahead: the length at least.
            Err(Errno::OPNOTSUPP) => self.file.set_len(self.len()?.max(position + len)),
            done => done.map_err(Into::into),
        }
    }

    fn forget(&self, position: u64, len: u64) {
        // A hint: whether the kernel takes it changes nothing.
        let _ = rustix::fs::fadvise(&self.file, position, NonZeroU64::new(len), Advice::DontNeed);
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(AsFd::as_fd(&*self.file))
    }
}

/// Reads what the page cache has, from the start of `bytes` on; how many bytes.
fn read_cached(file: &fs::File, position: u64, bytes: &mut [u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(bytes)], position, ReadWriteFlags::NOWAIT) {
        Ok(read) => Ok(read),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Fills `bytes`, or as much as the file has; how many bytes.
fn read_full(file: &fs::File, position: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], position + to_u64(filled)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn is_cached(file: &fs::File, position: u64, len: u64) -> io::Result<bool> {
    let last = position.saturating_add(len - 1);
    let mut at = position;
    loop {
        if read_cached(file, at, &mut [0])? == 0 {
            return Ok(false);
        }
        if at == last {
            return Ok(true);
        }
        at = at.saturating_add(WARM_PROBE_BYTES).min(last);
    }
}

fn write_all(file: &fs::File, mut position: u64, mut buffers: &[IoSlice<'_>]) -> io::Result<()> {
    while !buffers.is_empty() {
        let group = &buffers[..buffers.len().min(BUFFERS_PER_WRITE_MAX)];
        let total: usize = group.iter().map(|buffer| buffer.len()).sum();
        let written = write_once(file, position, group)?;
        if written < total {
            finish_short_write(file, position, group, written)?;
        }
        position += to_u64(total);
        buffers = &buffers[group.len()..];
    }
    Ok(())
}

/// The rest of a group of which the kernel took only the first `written` bytes.
fn finish_short_write(file: &fs::File, position: u64, group: &[IoSlice<'_>], mut written: usize) -> io::Result<()> {
    let mut at = 0;
    for buffer in group {
        let end = at + buffer.len();
        while written < end {
            let rest = IoSlice::new(&buffer[written - at..]);
            written += write_once(file, position + to_u64(written), &[rest])?;
        }
        at = end;
    }
    Ok(())
}

fn write_once(file: &fs::File, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match rustix::io::pwritev(file, buffers, position) {
            Ok(0) if buffers.iter().any(|buffer| !buffer.is_empty()) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => return Ok(written),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::read_exact_at;

    fn file() -> (tempfile::TempDir, Arc<dyn File>) {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("file"), OpenOptions::create_new()).unwrap();
        (dir, file)
    }

    #[tokio::test]
    async fn more_buffers_than_one_call_takes_are_all_written() {
        let (_dir, file) = file();
        let expected: Vec<u8> = (0..3_000_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let buffers: Vec<IoSlice<'_>> = expected.chunks(1).map(IoSlice::new).collect();
        file.write_at(5, &buffers).await.unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(read_exact_at(&*file, 5, 3_000).await.unwrap(), expected);
    }

    #[test]
    fn a_short_write_is_continued_within_a_buffer() {
        let dir = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile_in(dir.path()).unwrap();
        let group = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg"), IoSlice::new(b"h")];
        for taken in 0..8 {
            file.set_len(0).unwrap();
            write_once(&file, 0, &[IoSlice::new(&b"abcdefgh"[..taken])]).unwrap();
            finish_short_write(&file, 0, &group, taken).unwrap();
            let mut bytes = [0; 9];
            assert_eq!(read_full(&file, 0, &mut bytes).unwrap(), 8);
            assert_eq!(&bytes[..8], b"abcdefgh");
        }
    }

    #[tokio::test]
    async fn reads_are_short_only_at_the_end() {
        let (_dir, file) = file();
        file.write_at(0, &[IoSlice::new(b"hello")]).await.unwrap();
        assert_eq!(file.read_at(1, 2).await.unwrap(), &b"el"[..]);
        assert_eq!(file.read_at(3, 100).await.unwrap(), &b"lo"[..]);
        assert_eq!(file.read_at(9, 1).await.unwrap(), &b""[..]);
        assert_eq!(read_exact_at(&*file, 3, 100).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        file.warm(0, 5).await.unwrap();
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = RealDisk.lock(&path).unwrap();
        assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[tokio::test]
    async fn allocated_space_reads_as_zeros() {
        let (_dir, file) = file();
        file.allocate(0, 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        assert!(file.read_at(4_096, 512).await.unwrap().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn directories_are_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        RealDisk.create_dir_all(&dir.path().join("b/c")).unwrap();
        RealDisk.open(&dir.path().join("a"), OpenOptions::create_new()).unwrap();
        RealDisk.sync_dir(dir.path()).unwrap();
        let names: Vec<_> =
            RealDisk.read_dir(dir.path()).unwrap().into_iter().map(|entry| (entry.name, entry.is_dir)).collect();
        assert_eq!(names, [("a".to_owned(), false), ("b".to_owned(), true)]);
        assert!(RealDisk.free_bytes(dir.path()).unwrap().available > 0);
    }
}
