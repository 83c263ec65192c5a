//! One connection to a broker: requests one behind the other, answers in their order.

use std::collections::VecDeque;
use std::io;

use base::net::{ReadHalf, Stream, WriteHalf};
use base::time::{Duration, sleep, timeout};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// No answer is larger.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What a slow reader reads at once.
const SLOW_BYTES: usize = 16 << 10;

/// Why a call has no answer. The connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    #[error("a batch whose checksum is wrong")]
    Damaged,
    #[error("nobody is known who could answer")]
    Nobody,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    read: ReadHalf,
    write: WriteHalf,
    next_correlation_id: i32,
    /// Sent and not answered.
    waiting: VecDeque<i32>,
}

impl Connection {
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write, next_correlation_id: 0, waiting: VecDeque::new() }
    }

    /// Sends a request without waiting for its answer.
    ///
    /// # Errors
    /// When the connection broke, or takes nothing for `wait_max`.
    pub async fn send<Q: Request>(
        &mut self,
        client_id: &str,
        version: i16,
        request: &Q,
        wait_max: Duration,
    ) -> Result<(), CallError> {
        let mut bytes = BytesMut::new();
        bytes.put_i32(0);
        bytes.put_i16(Q::KEY);
        bytes.put_i16(version);
        bytes.put_i32(self.next_correlation_id);
        bytes.put_i16(i16::try_from(client_id.len()).expect("a short name"));
        bytes.put_slice(client_id.as_bytes());
        if Q::header_version(version) >= 2 {
            bytes.put_u8(0);
        }
        request.encode(&mut bytes, version).map_err(|error| CallError::Malformed(error.to_string()))?;
        let size = i32::try_from(bytes.len() - 4).expect("requests are small");
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        self.waiting.push_back(self.next_correlation_id);
        self.next_correlation_id += 1;
        timeout(wait_max, self.write.write_all(&bytes)).await.map_err(|_| CallError::TimedOut)??;
        Ok(())
    }

    /// The answer to the oldest request that has none.
    ///
    /// # Errors
    /// When the connection broke, nothing comes for `wait_max`, or it is no answer to that request.
    pub async fn receive<Q: Request>(&mut self, version: i16, wait_max: Duration) -> Result<Q::Response, CallError> {
        let bytes = timeout(wait_max, self.frame()).await.map_err(|_| CallError::TimedOut)??;
        self.answer::<Q>(version, bytes)
    }

    fn answer<Q: Request>(&mut self, version: i16, mut bytes: Bytes) -> Result<Q::Response, CallError> {
        let malformed = |what: &str| CallError::Malformed(what.to_owned());
        let expected = self.waiting.pop_front().ok_or_else(|| malformed("nothing was asked"))?;
        let header_bytes = 4 + usize::from(Q::Response::header_version(version) >= 1);
        if bytes.len() < header_bytes {
            return Err(malformed("it ends in its header"));
        }
        let correlation_id = i32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
        if correlation_id != expected {
            return Err(malformed("it is out of order"));
        }
        let mut body = bytes.split_off(header_bytes);
        let response = Q::Response::decode(&mut body, version).map_err(|error| malformed(&error.to_string()))?;
        if body.is_empty() { Ok(response) } else { Err(malformed("something follows it")) }
    }

    /// As [`Self::receive`], but a bit at a time, after `first` and with `pause` between: `answer_max` is how long it
    /// may take.
    ///
    /// # Errors
    /// As there.
    pub async fn receive_slowly<Q: Request>(
        &mut self,
        version: i16,
        first: Duration,
        pause: Duration,
        answer_max: Duration,
    ) -> Result<Q::Response, CallError> {
        let bytes = timeout(answer_max, self.slow_frame(first, pause)).await.map_err(|_| CallError::TimedOut)??;
        self.answer::<Q>(version, bytes)
    }

    async fn slow_frame(&mut self, first: Duration, pause: Duration) -> io::Result<Bytes> {
        sleep(first).await;
        let size = self.size().await?;
        let mut body = vec![0; size];
        for bit in body.chunks_mut(SLOW_BYTES) {
            self.read.read_exact(bit).await?;
            sleep(pause).await;
        }
        Ok(Bytes::from(body))
    }

    async fn size(&mut self) -> io::Result<usize> {
        let size = self.read.read_i32().await?;
        let size = usize::try_from(size).ok().filter(|size| *size <= ANSWER_BYTES_MAX);
        size.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer of a wrong size"))
    }

    async fn frame(&mut self) -> io::Result<Bytes> {
        let mut body = vec![0; self.size().await?];
        self.read.read_exact(&mut body).await?;
        Ok(Bytes::from(body))
    }
}
