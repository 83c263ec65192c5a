//! A nonblocking connection that sends whole requests and finds whole answers in what it reads.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

/// Room for the answers of one read; larger answers grow it.
const READ_BYTES: usize = 64 << 10;

/// What is sent first, and how much of it went.
#[derive(Debug)]
struct Pending {
    bytes: Arc<[u8]>,
    sent: usize,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pending: VecDeque<Pending>,
    input: Vec<u8>,
    filled: usize,
}

impl Socket {
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, pending: VecDeque::new(), input: vec![0; READ_BYTES], filled: 0 })
    }

    /// Queues a request and sends what the socket takes.
    pub(super) fn send(&mut self, bytes: Arc<[u8]>) -> Result<()> {
        self.pending.push_back(Pending { bytes, sent: 0 });
        self.flush()
    }

    /// Whether the rest must wait until the socket takes more.
    pub(super) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        while let Some(first) = self.pending.front_mut() {
            match self.stream.write(&first.bytes[first.sent..]) {
                Ok(0) => bail!("the broker took nothing"),
                Ok(count) => {
                    first.sent += count;
                    if first.sent == first.bytes.len() {
                        self.pending.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }

    /// Reads what is there and gives every whole answer (after its length) to `take`.
    pub(super) fn receive(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        loop {
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("receiving"),
            }
            let mut begin = 0;
            while self.filled - begin >= 4 {
                let word = [self.input[begin], self.input[begin + 1], self.input[begin + 2], self.input[begin + 3]];
                let length = usize::try_from(i32::from_be_bytes(word)).context("a negative length")?;
                let end = begin + 4 + length;
                if end > self.filled {
                    if end - begin > self.input.len() {
                        self.input.resize(end - begin, 0);
                    }
                    break;
                }
                take(&self.input[begin + 4..end])?;
                begin = end;
            }
            let had_room = self.filled < self.input.len();
            self.input.copy_within(begin..self.filled, 0);
            self.filled -= begin;
            // A read that did not fill the buffer took all there was.
            if had_room {
                return Ok(());
            }
        }
    }
}
