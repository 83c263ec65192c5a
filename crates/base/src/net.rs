//! Sockets behind a trait: listening, connecting, vectored writes and sendfile.

#[cfg(feature = "simulation")]
mod sim;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, Interest, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::disk::{File, read_exact_at};
use crate::time::Duration;

#[cfg(feature = "simulation")]
pub use sim::{SimNetwork, SimNetworkOptions, SimReadHalf, SimStream, SimWriteHalf};

/// Connections that wait to be accepted.
const ACCEPT_BACKLOG: i32 = 1024;

/// Bytes handed to the kernel by one sendfile(2): large enough to cost little, small enough that
/// the cache check before it stays true and other tasks of the worker get their turn.
const SEND_FILE_PIECE_BYTES: u64 = 1 << 20;

/// Bytes copied at once where sendfile(2) cannot be used.
const COPY_PIECE_BYTES: u64 = 256 << 10;

/// A peer that vanished without a word is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A way to reach other processes.
pub trait Network: Send + Sync + Debug {
    /// Listens on `address`; port 0 takes a free one.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Stream>>;

    /// Addresses of a host name or of an address as text. Never empty.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// A socket that accepts connections.
pub trait Listener: Send + Sync + Debug {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;

    /// # Errors
    /// As getsockname(2).
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// The operating system's sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealNetwork;

#[derive(Debug)]
struct RealListener {
    listener: TcpListener,
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that opens sockets")]
impl Network for RealNetwork {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // A restarted broker takes its port back at once.
            socket.set_reuse_address(true)?;
            if address.is_ipv6() {
                // `[::]` and `0.0.0.0` may be two listeners with one port.
                socket.set_only_v6(true)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(ACCEPT_BACKLOG)?;
            let listener = TcpListener::from_std(socket.into())?;
            Ok(Box::new(RealListener { listener }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            prepare(&stream)?;
            Ok(Stream::Tcp(stream))
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("host {host} has no address")));
            }
            Ok(addresses)
        })
    }
}

impl Listener for RealListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            prepare(&stream)?;
            Ok((Stream::Tcp(stream), peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    /// In memory, for tests.
    Duplex(DuplexStream),
    #[cfg(feature = "simulation")]
    Sim(SimStream),
}

/// The reading half of a [`Stream`].
#[derive(Debug)]
pub enum ReadHalf {
    Tcp(OwnedReadHalf),
    Duplex(tokio::io::ReadHalf<DuplexStream>),
    #[cfg(feature = "simulation")]
    Sim(SimReadHalf),
}

/// The writing half of a [`Stream`]. Dropping it shuts the writing direction down.
#[derive(Debug)]
pub enum WriteHalf {
    Tcp(OwnedWriteHalf),
    Duplex(tokio::io::WriteHalf<DuplexStream>),
    #[cfg(feature = "simulation")]
    Sim(SimWriteHalf),
}

impl Stream {
    /// Two connected ends in memory, each with room for `bytes`.
    #[must_use]
    pub fn pair(bytes: usize) -> (Self, Self) {
        let (left, right) = tokio::io::duplex(bytes);
        (Self::Duplex(left), Self::Duplex(right))
    }

    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Duplex(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::Duplex(read), WriteHalf::Duplex(write))
            }
            #[cfg(feature = "simulation")]
            Self::Sim(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Sim(read), WriteHalf::Sim(write))
            }
        }
    }

    /// The other end; none in memory.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Duplex(_) => None,
            #[cfg(feature = "simulation")]
            Self::Sim(stream) => Some(stream.peer_address()),
        }
    }

    /// Writes all of `buffers`, which are left empty.
    ///
    /// # Errors
    /// As writev(2).
    pub async fn write_vectored_all(&mut self, buffers: &mut [IoSlice<'_>]) -> io::Result<()> {
        write_vectored_all(self, buffers).await
    }

    /// Sends `len` bytes of `file` from `position` on without copying them through this process
    /// where the kernel can.
    ///
    /// # Errors
    /// As sendfile(2); `UnexpectedEof` when the file ends before.
    pub async fn send_file(&mut self, file: &Arc<dyn File>, position: u64, len: u64) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => send_file(stream, file, position, len).await,
            Self::Duplex(stream) => copy_file(stream, file, position, len).await,
            #[cfg(feature = "simulation")]
            Self::Sim(stream) => copy_file(stream, file, position, len).await,
        }
    }
}

impl WriteHalf {
    /// See [`Stream::write_vectored_all`].
    ///
    /// # Errors
    /// As writev(2).
    pub async fn write_vectored_all(&mut self, buffers: &mut [IoSlice<'_>]) -> io::Result<()> {
        write_vectored_all(self, buffers).await
    }

    /// See [`Stream::send_file`].
    ///
    /// # Errors
    /// As sendfile(2); `UnexpectedEof` when the file ends before.
    pub async fn send_file(&mut self, file: &Arc<dyn File>, position: u64, len: u64) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => send_file(stream.as_ref(), file, position, len).await,
            Self::Duplex(stream) => copy_file(stream, file, position, len).await,
            #[cfg(feature = "simulation")]
            Self::Sim(stream) => copy_file(stream, file, position, len).await,
        }
    }
}

async fn write_vectored_all<W: AsyncWrite + Unpin>(writer: &mut W, mut buffers: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Empty buffers in front would make a write of 0 bytes look like a closed stream.
    IoSlice::advance_slices(&mut buffers, 0);
    while !buffers.is_empty() {
        let written = poll_fn(|context| match &*buffers {
            // send(2) costs less than writev(2).
            [only] => Pin::new(&mut *writer).poll_write(context, only),
            _ => Pin::new(&mut *writer).poll_write_vectored(context, buffers),
        })
        .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut buffers, written);
    }
    Ok(())
}

async fn send_file(stream: &TcpStream, file: &Arc<dyn File>, position: u64, len: u64) -> io::Result<()> {
    let (mut at, end) = (position, position + len);
    while at < end {
        let piece_end = end.min(at + SEND_FILE_PIECE_BYTES);
        // sendfile waits for the device on this worker when pages are missing.
        file.warm(at, piece_end - at).await?;
        let Some(descriptor) = file.as_fd() else {
            let mut writer = TcpWriter { stream };
            return copy_file(&mut writer, file, at, end - at).await;
        };
        while at < piece_end {
            let count = usize::try_from(piece_end - at).expect("a piece fits the address space");
            let sent = stream
                .async_io(Interest::WRITABLE, || {
                    let mut from = at;
                    rustix::fs::sendfile(stream, descriptor, Some(&mut from), count).map_err(io::Error::from)
                })
                .await?;
            if sent == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += u64::try_from(sent).expect("a count of bytes fits 64 bits");
        }
    }
    Ok(())
}

/// Writes through a shared reference, which tokio's stream itself does not offer as `AsyncWrite`.
struct TcpWriter<'a> {
    stream: &'a TcpStream,
}

impl AsyncWrite for TcpWriter<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.poll_write_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn copy_file<W>(writer: &mut W, file: &Arc<dyn File>, position: u64, len: u64) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let (mut at, end) = (position, position + len);
    while at < end {
        let count = usize::try_from((end - at).min(COPY_PIECE_BYTES)).expect("a piece fits the address space");
        let bytes = read_exact_at(&**file, at, count).await?;
        writer.write_all(&bytes).await?;
        at += u64::try_from(count).expect("a count of bytes fits 64 bits");
    }
    Ok(())
}

macro_rules! delegate_read {
    ($type:ident) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
                    Self::Duplex(stream) => Pin::new(stream).poll_read(context, buffer),
                    #[cfg(feature = "simulation")]
                    Self::Sim(stream) => Pin::new(stream).poll_read(context, buffer),
                }
            }
        }
    };
}

macro_rules! delegate_write {
    ($type:ident) => {
        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
                    Self::Duplex(stream) => Pin::new(stream).poll_write(context, bytes),
                    #[cfg(feature = "simulation")]
                    Self::Sim(stream) => Pin::new(stream).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
                    Self::Duplex(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
                    #[cfg(feature = "simulation")]
                    Self::Sim(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
                }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
                    Self::Duplex(stream) => Pin::new(stream).poll_flush(context),
                    #[cfg(feature = "simulation")]
                    Self::Sim(stream) => Pin::new(stream).poll_flush(context),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
                    Self::Duplex(stream) => Pin::new(stream).poll_shutdown(context),
                    #[cfg(feature = "simulation")]
                    Self::Sim(stream) => Pin::new(stream).poll_shutdown(context),
                }
            }
        }
    };
}

delegate_read!(Stream);
delegate_read!(ReadHalf);
delegate_write!(Stream);
delegate_write!(WriteHalf);
