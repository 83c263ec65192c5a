//! An open file of the simulated disk.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::BoxFuture;

use super::{Shared, State};
use crate::disk::File;
use crate::time::{self, Duration};
use crate::trace;

#[derive(Debug)]
pub(super) struct SimFile {
    shared: Arc<Shared>,
    file: u64,
    life: u64,
    writable: bool,
}

impl SimFile {
    pub(super) fn new(shared: Arc<Shared>, file: u64, life: u64, writable: bool) -> Self {
        Self { shared, file, life, writable }
    }

    fn with<T>(&self, call: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.shared.state.lock();
        if state.life != self.life {
            return Err(io::Error::other("the simulated machine crashed"));
        }
        call(&mut state)
    }

    fn write(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        assert!(self.writable, "the file was opened for writing");
        self.with(|_| Ok(()))?;
        let len = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        self.shared.operation("write", &[self.file, position, len, hash_of(buffers)])?;
        self.with(|state| {
            state.count_down()?;
            let before = state.files[&self.file].len();
            state.check_space((position + len).saturating_sub(before))?;
            state.files.get_mut(&self.file).expect("an open file is there").write(position, buffers);
            Ok(())
        })
    }
}

fn hash_of(buffers: &[IoSlice<'_>]) -> u64 {
    match buffers {
        [bytes] => trace::hash_of(bytes),
        several => trace::hash_of(&several.iter().map(|bytes| &**bytes).collect::<Vec<&[u8]>>().concat()),
    }
}

impl File for SimFile {
    fn read_at(&self, position: u64, len: usize) -> BoxFuture<'_, io::Result<BytesMut>> {
        Box::pin(async move {
            let latency = self.shared.state.lock().options.read_latency;
            if latency > Duration::ZERO {
                time::sleep(latency).await;
            }
            self.with(|state| Ok(BytesMut::from(state.files[&self.file].read(position, len))))
        })
    }

    fn write_at<'a>(&'a self, position: u64, buffers: &'a [IoSlice<'a>]) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.shared.pause().await;
            self.write(position, buffers)
        })
    }

    fn sync_data(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.with(|_| Ok(()))?;
            self.shared.operation("sync", &[self.file])?;
            // What is written while the sync takes its time is not covered by it.
            let mark = self.with(|state| {
                state.count_down()?;
                Ok(state.files[&self.file].mark())
            })?;
            self.shared.pause().await;
            self.with(|state| {
                if !state.options.ignore_sync {
                    state.files.get_mut(&self.file).expect("an open file is there").sync(mark);
                }
                Ok(())
            })
        })
    }

    fn warm(&self, _: u64, _: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.files[&self.file].len()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            let before = state.files[&self.file].len();
            state.check_space(len.saturating_sub(before))?;
            state.used = None;
            state.files.get_mut(&self.file).expect("an open file is there").set_len(len);
            Ok(())
        })
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        let end = self.len()?.max(position + len);
        self.set_len(end)
    }

    fn forget(&self, _: u64, _: u64) {}

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
