//! One side of a simulated connection.

use std::fmt;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pipe::{Pipe, Read};
use crate::time::{Sleep, sleep_until};

/// A simulated connection.
#[derive(Debug)]
pub struct SimStream {
    read: SimReadHalf,
    write: SimWriteHalf,
    peer: SocketAddr,
}

/// The reading half of a [`SimStream`].
pub struct SimReadHalf {
    pipe: Arc<Pipe>,
    arrival: Option<Pin<Box<Sleep>>>,
}

/// The writing half of a [`SimStream`].
#[derive(Debug)]
pub struct SimWriteHalf {
    pipe: Arc<Pipe>,
}

impl SimStream {
    pub(super) fn new(read: Arc<Pipe>, write: Arc<Pipe>, peer: SocketAddr) -> Self {
        Self { read: SimReadHalf { pipe: read, arrival: None }, write: SimWriteHalf { pipe: write }, peer }
    }

    pub(crate) fn into_split(self) -> (SimReadHalf, SimWriteHalf) {
        (self.read, self.write)
    }

    pub(crate) const fn peer_address(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for SimReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.pipe.read(context, buffer) {
                Read::Done(done) => return Poll::Ready(done),
                Read::Wait => return Poll::Pending,
                Read::At(at) => {
                    let arrival = match &mut self.arrival {
                        Some(arrival) => {
                            if arrival.deadline() != at {
                                arrival.as_mut().reset(at);
                            }
                            arrival
                        }
                        none => none.insert(Box::pin(sleep_until(at))),
                    };
                    if arrival.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.arrival = None;
                }
            }
        }
    }
}

impl AsyncWrite for SimWriteHalf {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pipe.write(context, &[bytes])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let buffers: Vec<&[u8]> = buffers.iter().map(|buffer| &**buffer).collect();
        self.pipe.write(context, &buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.end();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(context, buffer)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().write).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().write).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().write).poll_shutdown(context)
    }
}

impl Drop for SimReadHalf {
    fn drop(&mut self) {
        self.pipe.abandon();
    }
}

impl Drop for SimWriteHalf {
    fn drop(&mut self) {
        self.pipe.end();
    }
}

impl fmt::Debug for SimReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimReadHalf").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}
