//! One direction of a simulated connection.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::ReadBuf;

use super::fabric::Fabric;
use crate::time::{Duration, Instant, now};
use crate::trace;

/// What one write hands over at most.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Pipe {
    fabric: Arc<Fabric>,
    number: u64,
    from: IpAddr,
    to: IpAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Written, and not known by the writer to be read.
    held_bytes: usize,
    /// Read, while the writer could not be told.
    untold_bytes: usize,
    /// When the line is free again.
    free_at: Option<Instant>,
    /// When the last piece arrives.
    last_at: Option<Instant>,
    /// When the reader learns that nothing follows.
    end_at: Option<Instant>,
    is_reset: bool,
    is_stuck: bool,
    reader_is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
struct Piece {
    at: Instant,
    bytes: Vec<u8>,
    read: usize,
}

/// What a reader is to do.
pub(super) enum Read {
    Done(io::Result<()>),
    /// Something arrives then.
    At(Instant),
    /// Somebody will wake him.
    Wait,
}

impl Pipe {
    pub(super) fn new(fabric: Arc<Fabric>, number: u64, from: IpAddr, to: IpAddr) -> Self {
        Self { fabric, number, from, to, state: Mutex::default() }
    }

    pub(super) fn goes(&self, from: IpAddr, to: IpAddr) -> bool {
        (self.from, self.to) == (from, to)
    }

    pub(super) fn read(&self, context: &Context<'_>, buffer: &mut ReadBuf<'_>) -> Read {
        let is_blocked = self.fabric.is_blocked(self.from, self.to);
        let cannot_tell = self.fabric.is_blocked(self.to, self.from);
        let mut state = self.state.lock();
        if state.is_reset {
            return Read::Done(Err(io::ErrorKind::ConnectionReset.into()));
        }
        state.reader = Some(context.waker().clone());
        if state.is_stuck || is_blocked {
            return Read::Wait;
        }
        let (now, mut copied) = (now(), 0);
        while let Some(piece) = state.pieces.front_mut() {
            if buffer.remaining() == 0 {
                break;
            }
            if piece.at > now {
                if copied == 0 {
                    return Read::At(piece.at);
                }
                break;
            }
            let rest = &piece.bytes[piece.read..];
            let count = rest.len().min(buffer.remaining());
            trace::event("read", &[self.number, count as u64, trace::hash_of(&rest[..count])]);
            buffer.put_slice(&rest[..count]);
            piece.read += count;
            copied += count;
            if piece.read == piece.bytes.len() {
                state.pieces.pop_front();
            }
        }
        if copied == 0 && buffer.remaining() > 0 {
            return match state.end_at {
                Some(at) if at <= now => Read::Done(Ok(())),
                Some(at) => Read::At(at),
                None => Read::Wait,
            };
        }
        state.untold_bytes += copied;
        if !cannot_tell {
            state.tell();
        }
        Read::Done(Ok(()))
    }

    pub(super) fn write(&self, context: &Context<'_>, bytes: &[&[u8]]) -> Poll<io::Result<usize>> {
        let cannot_hear = self.fabric.is_blocked(self.to, self.from);
        let latency = self.fabric.latency(self.from, self.to);
        let (buffer_bytes, rate) = (self.fabric.buffer_bytes(), self.fabric.bytes_per_second());
        let mut state = self.state.lock();
        if state.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state.reader_is_gone && !state.is_stuck && !cannot_hear {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = buffer_bytes.saturating_sub(state.held_bytes).min(PIECE_BYTES);
        if room == 0 {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut piece = Vec::with_capacity(room.min(bytes.iter().map(|bytes| bytes.len()).sum()));
        for bytes in bytes {
            piece.extend_from_slice(&bytes[..bytes.len().min(room - piece.len())]);
        }
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = piece.len();
        let now = now();
        let sent = state.free_at.map_or(now, |free| free.max(now)) + sending_time(count, rate);
        state.free_at = Some(sent);
        let at = state.last_at.map_or(sent + latency, |last| last.max(sent + latency));
        state.last_at = Some(at);
        state.held_bytes += count;
        state.pieces.push_back(Piece { at, bytes: piece, read: 0 });
        // Who waits for an earlier piece sees this one after it.
        if state.pieces.len() == 1
            && let Some(reader) = state.reader.take()
        {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    /// The writer has nothing more.
    pub(super) fn end(&self) {
        let latency = self.fabric.latency(self.from, self.to);
        let mut state = self.state.lock();
        if state.end_at.is_none() {
            let at = now() + latency;
            state.end_at = Some(state.last_at.map_or(at, |last| last.max(at)));
            state.wake();
        }
    }

    /// The reader wants nothing more.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.reader_is_gone = true;
        state.pieces.clear();
        state.wake();
    }

    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        state.is_reset = true;
        state.pieces.clear();
        state.wake();
    }

    /// Nothing arrives any more.
    pub(super) fn stick(&self) {
        let mut state = self.state.lock();
        state.is_stuck = true;
        state.pieces.clear();
    }

    /// The way is open again: what was held back comes after `delay`.
    pub(super) fn resume(&self, delay: Duration) {
        let mut state = self.state.lock();
        let least = now() + delay;
        for piece in &mut state.pieces {
            piece.at = piece.at.max(least);
        }
        if state.last_at.is_some_and(|last| last < least) {
            state.last_at = Some(least);
        }
        state.end_at = state.end_at.map(|end| end.max(least));
        state.wake();
    }

    /// The way back is open again: the writer learns what was read.
    pub(super) fn acknowledge(&self) {
        let mut state = self.state.lock();
        state.tell();
        state.wake();
    }
}

impl State {
    fn tell(&mut self) {
        let told = std::mem::take(&mut self.untold_bytes);
        self.held_bytes = self.held_bytes.checked_sub(told).expect("what is read was written");
        if told > 0
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
    }

    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

fn sending_time(bytes: usize, bytes_per_second: u64) -> Duration {
    Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / bytes_per_second)
}
