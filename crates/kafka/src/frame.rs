//! Requests out of a socket: four bytes of size, then the body, into refcounted buffers.
//!
//! What is kept true: memory is taken from the share for requests only for bytes that have arrived, in steps; a
//! promise of 100 MiB reserves nothing. When the share is used up reading stops, except for one request at a time,
//! which may finish beyond it: half-read requests can therefore not block each other for ever. A connection that
//! waits for its next request holds no buffer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base::memory::{Permit, Share};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{
    ANSWERERS_MAX, DECODED_BYTES_MAX, FRAME_BUFFER_BYTES, FRAME_STEP_BYTES, IN_FLIGHT_MAX, SCRATCH_BYTES,
};

thread_local! {
    /// Where a read goes whose length is not known before: whole small requests are copied from here, each into a buffer
    /// of its size, so that neither idle connections nor small batches hold large buffers.
    static SCRATCH: RefCell<Box<[u8; SCRATCH_BYTES]>> = RefCell::new(Box::new([0; SCRATCH_BYTES]));
}

/// The memory that requests may hold, shared by all connections.
///
/// Requests that come in one read ([`SCRATCH_BYTES`] at most) have a quarter for themselves, so that large ones that
/// stop half-way never keep the small ones waiting; another quarter is for what decoding makes of them.
#[derive(Debug, Clone)]
pub struct RequestMemory {
    large: Share,
    small: Share,
    decoded: Share,
    /// What connections remember of batches that were refused.
    pub(crate) refused: Share,
    /// Whoever holds it may finish its request beyond the share.
    finisher: Arc<Semaphore>,
    /// Whoever holds it may wait with a large response in hand for the memory to count it in.
    pub(crate) answerers: Arc<Semaphore>,
}

/// What is remembered of refused batches takes this part.
const REFUSED_PART: usize = 32;

impl RequestMemory {
    /// Divides `bytes` of the process's budget.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            large: Share::new("large requests", bytes / 2 - bytes / REFUSED_PART),
            small: Share::new("small requests", bytes / 4),
            decoded: Share::new("decoded requests", bytes / 4),
            refused: Share::new("refused batches", bytes / REFUSED_PART),
            finisher: Arc::new(Semaphore::new(1)),
            answerers: Arc::new(Semaphore::new(ANSWERERS_MAX)),
        }
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.large.used() + self.small.used() + self.decoded.used() + self.refused.used()
    }

    /// Whether large requests have to wait soon.
    pub(crate) fn is_short(&self) -> bool {
        self.large.used() >= self.large.bytes_max() / 4 * 3
    }

    /// What one request may become when it is decoded.
    pub(crate) fn decoded_bytes_max(&self) -> usize {
        DECODED_BYTES_MAX.min(self.decoded.bytes_max())
    }

    /// The same at once, or nothing.
    pub(crate) fn try_acquire_decoded(&self, bytes: usize) -> Option<Permit> {
        if bytes <= FRAME_STEP_BYTES { Some(Permit::empty()) } else { self.decoded.try_acquire(bytes) }
    }

    /// Memory for a decoded request of that estimate; small ones are not counted.
    pub(crate) async fn acquire_decoded(&self, bytes: usize) -> Permit {
        if bytes <= FRAME_STEP_BYTES { Permit::empty() } else { self.decoded.acquire(bytes).await }
    }
}

/// One request as it came, without its size. Its memory is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) body: Bytes,
    hold: Hold,
}

#[derive(Debug)]
pub(crate) struct Hold {
    permit: Permit,
    finisher: Option<OwnedSemaphorePermit>,
}

impl Frame {
    /// Splits the body from what holds its memory.
    pub(crate) fn into_parts(self) -> (Bytes, Hold) {
        (self.body, self.hold)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a request of {size} bytes was announced, at most {max} are allowed")]
    Size { size: i64, max: u32 },
    #[error("the connection ended {missing} bytes before the end of a request")]
    Truncated { missing: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request(Frame),
    /// The beginning of a request: the rest must follow.
    Begun,
    /// The peer ended the connection between two requests.
    End,
}

/// Reads requests one after another. Cancelling [`FrameReader::next`] loses nothing.
#[derive(Debug)]
pub(crate) struct FrameReader {
    memory: RequestMemory,
    /// What one read brought and nobody has asked for yet.
    kept: Kept,
    partial: Option<Partial>,
    /// Counts reads that brought something, so that a stall can be seen.
    progress: u64,
    /// Whether it waits for memory, not for the client.
    starved: bool,
}

/// Requests out of one read.
#[derive(Debug)]
struct Kept {
    size_max: u32,
    /// Those that came whole, each in a buffer of its own, but no more than are ever under way.
    whole: VecDeque<BytesMut>,
    /// What came behind them.
    rest: BytesMut,
}

#[derive(Debug)]
struct Partial {
    size: usize,
    buffer: BytesMut,
    hold: Hold,
}

impl FrameReader {
    pub(crate) fn new(memory: RequestMemory, size_max: u32) -> Self {
        let kept = Kept { size_max, whole: VecDeque::new(), rest: BytesMut::new() };
        Self { memory, kept, partial: None, progress: 0, starved: false }
    }

    /// How many reads have brought something.
    pub(crate) const fn progress(&self) -> u64 {
        self.progress
    }

    /// Whether a request is half here.
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.partial.is_some() || !self.kept.is_empty()
    }

    /// Whether the last wait was for memory: the client is not late.
    pub(crate) const fn is_starved(&self) -> bool {
        self.starved
    }

    /// Waits, between two requests, until the peer sends something or ends the connection; whether it is open. What
    /// comes is kept, one read of it, for whoever reads next.
    pub(crate) async fn listen(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        let kept = &mut self.kept;
        let read = std::future::poll_fn(|context| poll_scratch(stream, context, kept)).await?;
        self.progress += u64::from(read > 0);
        Ok(read > 0)
    }

    /// The next request, or its beginning when it does not come whole.
    pub(crate) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Incoming, FrameError> {
        loop {
            self.starved = false;
            if let Some(partial) = &mut self.partial {
                if partial.buffer.len() == partial.size {
                    if !partial.is_paid() {
                        // It came whole in one read.
                        self.starved = true;
                        let permit = self.memory.small.acquire(partial.size).await;
                        partial.hold.permit.merge(permit);
                        self.starved = false;
                    }
                    let partial = self.partial.take().expect("matched above");
                    return Ok(Incoming::Request(Frame { body: partial.buffer.freeze(), hold: partial.hold }));
                }
                let read = partial.read(&self.memory, &mut self.starved, stream).await?;
                if read == 0 {
                    return Err(FrameError::Truncated { missing: partial.size - partial.buffer.len() });
                }
                self.progress += 1;
                continue;
            }
            if self.begin_frame()? {
                match &self.partial {
                    Some(partial) if partial.buffer.len() < partial.size => return Ok(Incoming::Begun),
                    Some(_) | None => continue,
                }
            }
            let kept = &mut self.kept;
            let read = std::future::poll_fn(|context| poll_scratch(stream, context, kept)).await?;
            if read == 0 {
                return match self.kept.rest.len() {
                    0 => Ok(Incoming::End),
                    size => Err(FrameError::Truncated { missing: 4_usize.saturating_sub(size) }),
                };
            }
            self.progress += 1;
        }
    }

    /// Moves what was kept of the next request into `partial`; false when not even its size is there.
    fn begin_frame(&mut self) -> Result<bool, FrameError> {
        let Some((size, buffer)) = self.kept.begin()? else { return Ok(false) };
        self.partial = Some(Partial { size, buffer, hold: Hold { permit: Permit::empty(), finisher: None } });
        Ok(true)
    }
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.rest.is_empty()
    }

    /// Keeps what was read behind what is there: less than a size, or nothing.
    fn push(&mut self, read: &[u8]) {
        assert!(self.whole.is_empty() && self.rest.len() < 4, "what was read is used before more is read");
        let joined;
        let mut read = read;
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(read);
            joined = std::mem::take(&mut self.rest);
            read = &joined;
        }
        while self.whole.len() < IN_FLIGHT_MAX
            && let Some((size, behind)) = read.split_first_chunk::<4>()
            && let Some((body, others)) = self.size(*size).ok().and_then(|size| behind.split_at_checked(size))
        {
            self.whole.push_back(BytesMut::from(body));
            read = others;
        }
        self.rest.extend_from_slice(read);
    }

    /// The size of the next request and what is here of it.
    fn begin(&mut self) -> Result<Option<(usize, BytesMut)>, FrameError> {
        if let Some(whole) = self.whole.pop_front() {
            if self.whole.is_empty() {
                self.whole = VecDeque::new();
            }
            return Ok(Some((whole.len(), whole)));
        }
        let Some(size) = self.rest.first_chunk::<4>() else { return Ok(None) };
        let size = self.size(*size)?;
        self.rest.advance(4);
        let here = size.min(self.rest.len());
        // Never a part of `rest`: others would keep it alive.
        let capacity = if here == size { size } else { size.min(FRAME_BUFFER_BYTES) };
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.extend_from_slice(&self.rest[..here]);
        self.rest.advance(here);
        if self.rest.is_empty() {
            self.rest = BytesMut::new();
        }
        Ok(Some((size, buffer)))
    }

    fn size(&self, size: [u8; 4]) -> Result<usize, FrameError> {
        let size = i32::from_be_bytes(size);
        let allowed = u32::try_from(size).ok().filter(|size| *size <= self.size_max);
        let allowed = allowed.and_then(|size| usize::try_from(size).ok());
        allowed.ok_or_else(|| FrameError::Size { size: size.into(), max: self.size_max })
    }
}

impl Partial {
    fn is_paid(&self) -> bool {
        self.hold.finisher.is_some() || self.hold.permit.bytes() >= self.size
    }

    /// Reads more of the body straight into its buffer.
    async fn read(
        &mut self,
        memory: &RequestMemory,
        starved: &mut bool,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<usize, FrameError> {
        let (have, missing) = (self.buffer.len(), self.size - self.buffer.len());
        let paid = self.hold.permit.bytes();
        let room = if self.hold.finisher.is_some() {
            missing
        } else if paid > have {
            missing.min(paid - have)
        } else {
            let step = missing.min(FRAME_STEP_BYTES) + have.saturating_sub(paid);
            *starved = true;
            self.take_memory(memory, step).await;
            *starved = false;
            missing.min(FRAME_STEP_BYTES)
        };
        if self.buffer.capacity() == have {
            let grown = self.size.min(have.saturating_mul(4).max(FRAME_STEP_BYTES));
            let mut larger = BytesMut::with_capacity(grown);
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
        let room = room.min(self.buffer.capacity() - have);
        Ok(stream.read_buf(&mut (&mut self.buffer).limit(room)).await?)
    }

    /// Takes `bytes` from the share; when it is used up, waits for them or for leave to finish without.
    async fn take_memory(&mut self, memory: &RequestMemory, bytes: usize) {
        if self.hold.finisher.is_some() {
            return;
        }
        if let Some(permit) = memory.large.try_acquire(bytes) {
            self.hold.permit.merge(permit);
            return;
        }
        tokio::select! {
            biased;
            permit = memory.large.acquire(bytes) => self.hold.permit.merge(permit),
            permit = Arc::clone(&memory.finisher).acquire_owned() => {
                self.hold.finisher = Some(permit.expect("the semaphore is never closed"));
            }
        }
    }
}

fn poll_scratch(
    stream: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
    kept: &mut Kept,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(&mut scratch[..]);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        kept.push(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

#[cfg(test)]
mod tests;
