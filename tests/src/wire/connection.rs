//! One blocking connection to a broker.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Writer;

/// Every wait on the socket ends in an error after this.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection that numbers its requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Self> {
        Self::open_within(address, Duration::from_secs(5))
    }

    pub fn open_within(address: SocketAddr, limit: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self { stream, correlation: 0 })
    }

    pub fn local_port(&self) -> Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    pub fn set_limit(&mut self, limit: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        Ok(())
    }

    /// Sends a request and returns its answer after the correlation id.
    pub fn call(&mut self, key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
        self.send(key, version, body)?;
        self.answer()
    }

    /// Sends a request with a header of version 1; answers are taken with [`Self::answer`], in order.
    pub fn send(&mut self, key: i16, version: i16, body: &[u8]) -> Result<()> {
        self.correlation += 1;
        let frame = frame(key, version, self.correlation, body);
        self.stream.write_all(&frame).context("sending a request")
    }

    /// Any bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer, without its correlation id.
    pub fn answer(&mut self) -> Result<Vec<u8>> {
        Ok(self.numbered_answer()?.1)
    }

    /// The next answer with its correlation id.
    pub fn numbered_answer(&mut self) -> Result<(i32, Vec<u8>)> {
        let mut word = [0; 4];
        self.stream.read_exact(&mut word).context("waiting for an answer")?;
        let length = usize::try_from(i32::from_be_bytes(word)).context("a negative length")?;
        ensure!((4..=512 << 20).contains(&length), "an answer of {length} bytes");
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).context("reading an answer")?;
        let body = answer.split_off(4);
        let correlation = i32::from_be_bytes([answer[0], answer[1], answer[2], answer[3]]);
        Ok((correlation, body))
    }

    /// Waits until the other side closes; what it sends before is thrown away.
    pub fn expect_closed(&mut self, limit: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    bail!("the connection is still open after {limit:?}")
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// One request with a header of version 1 and the client id `tests`.
pub fn frame(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Writer::new();
    frame.i32(0).i16(key).i16(version).i32(correlation).string("tests").raw(body);
    let length = frame.0.len() - 4;
    frame.patch_i32(0, length);
    frame.0
}
