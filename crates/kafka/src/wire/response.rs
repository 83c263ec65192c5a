//! A response on its way out: bytes of ours and payload that is never copied, in the order of the wire.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use base::disk::File;
use base::net::Stream;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use crate::handshake::RequestHeader;

/// Buffers handed to the kernel by one call; the kernel takes at most 1,024.
const BUFFERS_PER_CALL: usize = 256;

/// Bytes of the size in front of every response.
const SIZE_BYTES: usize = 4;

/// One complete response.
pub(crate) struct Response {
    /// Everything that was encoded for this response: its size, its header, and what stands between payloads.
    head: BytesMut,
    /// In the order of the wire; empty when the head is all there is.
    parts: Vec<Part>,
    payload_bytes: u64,
    /// Keeps what the payload lies in for as long as it is sent.
    held: Vec<Box<dyn Send + Sync>>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("head", &self.head.len())
            .field("parts", &self.parts.len())
            .field("payload_bytes", &self.payload_bytes)
            .finish_non_exhaustive()
    }
}

enum Part {
    Head(Range<usize>),
    Memory(Bytes),
    File { file: Arc<dyn File>, position: u64, len: u64 },
}

/// Why a response could not be made. The crate that encodes refuses what a version cannot say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("the response cannot be encoded: {0}")]
    Message(String),
    #[error("the response has {0} bytes, more than a size field can say")]
    TooLarge(u64),
}

/// Builds a [`Response`].
pub(crate) struct ResponseBuilder {
    response: Response,
    /// Where the head's next part begins.
    head_from: usize,
}

impl ResponseBuilder {
    /// Starts with the size to be filled in and the response header.
    pub(crate) fn new(header: &RequestHeader, capacity: usize) -> Self {
        let mut head = BytesMut::with_capacity(capacity.max(16));
        head.put_u32(0);
        head.put_i32(header.correlation_id);
        if header.api.response_header_is_flexible(header.version) {
            head.put_u8(0);
        }
        Self { response: Response { head, parts: Vec::new(), payload_bytes: 0, held: Vec::new() }, head_from: 0 }
    }

    pub(crate) fn head(&mut self) -> &mut BytesMut {
        &mut self.response.head
    }

    fn close_head(&mut self) {
        let end = self.response.head.len();
        if end > self.head_from {
            self.response.parts.push(Part::Head(self.head_from..end));
            self.head_from = end;
        }
    }

    pub(crate) fn memory(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.close_head();
        self.response.payload_bytes += bytes.len() as u64;
        self.response.parts.push(Part::Memory(bytes));
    }

    pub(crate) fn file(&mut self, file: Arc<dyn File>, position: u64, len: u64) {
        if len == 0 {
            return;
        }
        self.close_head();
        self.response.payload_bytes += len;
        self.response.parts.push(Part::File { file, position, len });
    }

    /// Keeps `what` until the response is sent.
    pub(crate) fn hold(&mut self, what: impl Send + Sync + 'static) {
        self.response.held.push(Box::new(what));
    }

    pub(crate) fn finish(mut self) -> Result<Response, EncodeError> {
        if !self.response.parts.is_empty() {
            self.close_head();
        }
        let response = &mut self.response;
        let bytes = (response.head.len() - SIZE_BYTES) as u64 + response.payload_bytes;
        let size = i32::try_from(bytes).map_err(|_| EncodeError::TooLarge(bytes))?;
        response.head[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        Ok(self.response)
    }
}

impl Response {
    /// A response with a body of the message crate, in the crate's `version`.
    pub(crate) fn message(header: &RequestHeader, version: i16, body: &impl Encodable) -> Result<Self, EncodeError> {
        let mut builder = ResponseBuilder::new(header, 128);
        body.encode(builder.head(), version).map_err(|error| EncodeError::Message(error.to_string()))?;
        builder.finish()
    }

    /// Bytes on the wire.
    pub(crate) fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.payload_bytes
    }

    /// Bytes of ours.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head.len()
    }

    /// The head of a response without payload, to be sent together with others.
    pub(crate) fn as_head_only(&self) -> Option<&[u8]> {
        self.parts.is_empty().then_some(&self.head[..])
    }

    /// Writes all of it.
    pub(crate) async fn send(&self, stream: &mut Stream) -> io::Result<()> {
        if self.parts.is_empty() {
            return stream.write_vectored_all(&mut [IoSlice::new(&self.head)]).await;
        }
        let mut at = 0;
        while at < self.parts.len() {
            if let Part::File { file, position, len } = &self.parts[at] {
                stream.send_file(file, *position, *len).await?;
                at += 1;
                continue;
            }
            let mut buffers: Vec<IoSlice<'_>> = Vec::with_capacity(BUFFERS_PER_CALL.min(self.parts.len() - at));
            while let Some(part) = self.parts.get(at)
                && buffers.len() < BUFFERS_PER_CALL
            {
                match part {
                    Part::Head(range) => buffers.push(IoSlice::new(&self.head[range.clone()])),
                    Part::Memory(bytes) => buffers.push(IoSlice::new(bytes)),
                    Part::File { .. } => break,
                }
                at += 1;
            }
            stream.write_vectored_all(&mut buffers).await?;
        }
        Ok(())
    }

    /// All bytes in one buffer; file parts are left out. For tests.
    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        if self.parts.is_empty() {
            return self.head.to_vec();
        }
        let mut all = Vec::new();
        for part in &self.parts {
            match part {
                Part::Head(range) => all.extend_from_slice(&self.head[range.clone()]),
                Part::Memory(bytes) => all.extend_from_slice(bytes),
                Part::File { .. } => {}
            }
        }
        all
    }
}
