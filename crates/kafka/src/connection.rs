//! One connection: requests in, responses out, strictly in the order of the requests.
//!
//! Produce requests are submitted one behind the other without waiting for the former's commit, so that those in
//! flight share group commits; their order, and that of their answers, is kept. Every other request is served when all
//! before it are answered, as in Kafka. While it is served at most one more request is read, which also shows whether
//! the client is still there.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};

use base::net::Stream;
use base::time::{Duration, Instant, Sleep, now, sleep_until, timeout};
use tokio::sync::watch;

use crate::context::Context;
use crate::frame::{Frame, FrameError, FrameReader};
use crate::handlers::produce::{self, Produce};
use crate::handlers::{self, ServeError};
use crate::handshake::{ApiKey, HeaderError, RequestHeader};
use crate::limits::{IN_FLIGHT_MAX, STALL_MAX};
use crate::wire::read::Malformed;
use crate::wire::response::{EncodeError, Response};

/// How often deadlines are looked at while something is under way.
const TICK: Duration = Duration::from_secs(1);

/// The slowest reader that is waited for, in bytes a second, beyond the time that a connection may be idle.
const READER_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// Why a connection ended, other than by its client between two requests.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("malformed {key:?} version {version}: {cause}")]
    Malformed { key: ApiKey, version: i16, cause: Malformed },
    #[error("a response to {key:?} version {version} failed: {cause}")]
    Encode { key: ApiKey, version: i16, cause: EncodeError },
    #[error("a produce request without acknowledgement failed with error code {code}")]
    Unacknowledged { code: i16 },
    #[error("nothing happened for {0:?}")]
    Idle(Duration),
    #[error("a request stopped half-way while memory was short")]
    Stalled,
    #[error("the client does not take its response")]
    SlowReader,
    #[error("writing failed: {0}")]
    Write(#[source] io::Error),
}

impl Ended {
    /// What a well-behaved client or network does every day.
    fn is_ordinary(&self) -> bool {
        match self {
            Self::Idle(_) | Self::Write(_) | Self::Frame(FrameError::Io(_)) => true,
            Self::Frame(FrameError::Size { .. } | FrameError::Truncated { .. })
            | Self::Header(_)
            | Self::Malformed { .. }
            | Self::Encode { .. }
            | Self::Unacknowledged { .. }
            | Self::Stalled
            | Self::SlowReader => false,
        }
    }
}

pub(crate) struct Connection {
    context: Context,
    peer: SocketAddr,
    stream: Stream,
    frames: FrameReader,
    /// Read while the request before it was served.
    ahead: Option<Frame>,
    in_flight: VecDeque<Produce>,
    timer: Pin<Box<Sleep>>,
    active: Instant,
    /// How far reading was when it was last seen to move, and when that was.
    seen: (u64, Instant),
    shutdown: watch::Receiver<bool>,
}

enum Event {
    Answerable,
    Request(Frame),
    Gone(Result<(), FrameError>),
    Tick,
    Shutdown,
}

impl Connection {
    pub(crate) fn new(context: Context, stream: Stream, peer: SocketAddr, shutdown: watch::Receiver<bool>) -> Self {
        let limits = &context.shared.limits;
        let frames = FrameReader::new(context.shared.memory.clone(), limits.request_bytes_max);
        let now = now();
        let timer = Box::pin(sleep_until(now + limits.idle_max));
        Self {
            context,
            peer,
            stream,
            frames,
            ahead: None,
            in_flight: VecDeque::new(),
            timer,
            active: now,
            seen: (0, now),
            shutdown,
        }
    }

    /// Serves the connection to its end, and says why it ended.
    pub(crate) async fn run(mut self) {
        let Err(ended) = self.serve().await else { return };
        let (listener, peer) = (&self.context.shared.listener, self.peer);
        if ended.is_ordinary() {
            tracing::debug!(%listener, %peer, reason = %ended, "connection closed");
        } else {
            tracing::info!(%listener, %peer, client = %self.context.client_id_text(), reason = %ended, "connection closed");
        }
    }

    async fn serve(&mut self) -> Result<(), Ended> {
        loop {
            match self.next_event().await {
                Event::Answerable => self.answer_completed().await?,
                Event::Request(frame) => {
                    self.active = now();
                    self.request(frame).await?;
                }
                Event::Gone(how) => {
                    // What was taken is answered, to a client that only closed its side of the connection.
                    self.drain().await?;
                    return how.map_err(Ended::Frame);
                }
                Event::Tick => self.tick()?,
                Event::Shutdown => return self.drain().await,
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let has_room = self.in_flight.len() < IN_FLIGHT_MAX;
        if has_room && let Some(frame) = self.ahead.take() {
            return Event::Request(frame);
        }
        let Self { stream, frames, in_flight, timer, shutdown, .. } = self;
        tokio::select! {
            biased;
            () = poll_fn(|context| match in_flight.front_mut() {
                Some(produce) => produce.poll(context),
                None => Poll::Pending,
            }) => Event::Answerable,
            frame = frames.next(stream), if has_room => match frame {
                Ok(Some(frame)) => Event::Request(frame),
                Ok(None) => Event::Gone(Ok(())),
                Err(error) => Event::Gone(Err(error)),
            },
            () = timer => Event::Tick,
            _ = shutdown.wait_for(|stopping| *stopping) => Event::Shutdown,
        }
    }

    /// Looks at every deadline, and decides when to look again.
    fn tick(&mut self) -> Result<(), Ended> {
        let now = now();
        let shared = &self.context.shared;
        for produce in &mut self.in_flight {
            produce.expire(now);
        }
        if self.frames.progress() != self.seen.0 {
            self.seen = (self.frames.progress(), now);
            self.active = now;
        }
        let mid_frame = self.frames.is_mid_frame();
        if mid_frame && now.duration_since(self.seen.1) >= STALL_MAX && shared.memory.is_short() {
            return Err(Ended::Stalled);
        }
        let idle_at = self.active + shared.limits.idle_max;
        if self.in_flight.is_empty() && now >= idle_at {
            return Err(Ended::Idle(shared.limits.idle_max));
        }
        let busy = mid_frame || !self.in_flight.is_empty();
        self.timer.as_mut().reset(if busy {
            idle_at.min(now + TICK).max(now + Duration::from_millis(1))
        } else {
            idle_at
        });
        Ok(())
    }

    /// Makes sure that deadlines are looked at soon.
    fn watch_deadlines(&mut self) {
        let soon = self.active + TICK;
        if self.timer.deadline() > soon {
            self.timer.as_mut().reset(soon);
        }
    }

    async fn request(&mut self, frame: Frame) -> Result<(), Ended> {
        let served = self.serve_request(frame).await;
        if matches!(served, Err(Ended::Header(_) | Ended::Malformed { .. })) {
            // The requests before the bad one are answered.
            self.drain().await?;
        }
        served
    }

    async fn serve_request(&mut self, frame: Frame) -> Result<(), Ended> {
        let (body, hold) = frame.into_parts();
        let header = RequestHeader::parse(&body)?;
        self.context.set_client_id(header.client_id.as_deref());
        let (key, version) = (header.api.key, header.version);
        if key == ApiKey::Produce {
            let produce = produce::submit(&self.context, header, body, hold, self.active)
                .await
                .map_err(|cause| Ended::Malformed { key, version, cause })?;
            self.in_flight.push_back(produce);
            self.watch_deadlines();
            return Ok(());
        }
        self.drain().await?;
        let response = match self.work(&header, body).await? {
            Some(response) => response.map_err(|error| match error {
                ServeError::Malformed(cause) => Ended::Malformed { key, version, cause },
                ServeError::Encode(cause) => Ended::Encode { key, version, cause },
            })?,
            // Nobody waits for the answer, or nobody will make it.
            None => return Err(Ended::Frame(FrameError::Io(io::ErrorKind::ConnectionReset.into()))),
        };
        self.send(&response).await?;
        drop(hold);
        self.active = now();
        Ok(())
    }

    /// Serves one request while reading at most one more. `None` when the client went away from a read that waits, or
    /// when the broker stops while a request waits for what others do.
    async fn work(
        &mut self,
        header: &RequestHeader,
        body: bytes::Bytes,
    ) -> Result<Option<Result<Response, ServeError>>, Ended> {
        let Self { context, stream, frames, ahead, shutdown, .. } = self;
        let gives_up = header.api.key == ApiKey::Fetch;
        let waits = matches!(header.api.key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup);
        let mut work = Box::pin(handlers::serve(context, header, body));
        let mut listening = ahead.is_none();
        loop {
            tokio::select! {
                biased;
                response = &mut work => return Ok(Some(response)),
                _ = shutdown.wait_for(|stopping| *stopping), if waits => return Ok(None),
                frame = frames.next(stream), if listening => {
                    listening = false;
                    match frame {
                        Ok(Some(frame)) => *ahead = Some(frame),
                        Ok(None) | Err(_) if gives_up => return Ok(None),
                        // It will be seen again by whoever reads next.
                        Ok(None) | Err(FrameError::Truncated { .. } | FrameError::Io(_)) => {}
                        Err(error @ FrameError::Size { .. }) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Waits for everything in flight and answers it.
    async fn drain(&mut self) -> Result<(), Ended> {
        while !self.in_flight.is_empty() {
            let Self { in_flight, timer, .. } = self;
            tokio::select! {
                biased;
                () = poll_fn(|context| match in_flight.front_mut() {
                    Some(produce) => produce.poll(context),
                    None => Poll::Ready(()),
                }) => self.answer_completed().await?,
                () = timer => self.tick()?,
            }
        }
        Ok(())
    }

    /// Answers every produce request at the front that is complete, all in one write.
    async fn answer_completed(&mut self) -> Result<(), Ended> {
        let mut first: Option<Response> = None;
        let mut more = Vec::new();
        while let Some(produce) = self.in_flight.front_mut() {
            // Those behind the first may be complete, too: one group commit ends many. Who is not is asked again, with a
            // waker, when its turn comes.
            if produce.poll(&mut TaskContext::from_waker(Waker::noop())).is_pending() {
                break;
            }
            let produce = self.in_flight.pop_front().expect("front was there");
            let (key, version) = (ApiKey::Produce, produce.version());
            match produce.answer(&self.context.shared) {
                Ok(Some(response)) if first.is_none() => first = Some(response),
                Ok(Some(response)) => more.push(response),
                Ok(None) => {}
                Err(produce::Unanswerable::Failed { code }) => return Err(Ended::Unacknowledged { code }),
                Err(produce::Unanswerable::Encode(cause)) => return Err(Ended::Encode { key, version, cause }),
            }
        }
        let Some(first) = first else { return Ok(()) };
        if more.is_empty() {
            return self.send(&first).await;
        }
        let mut buffers: Vec<IoSlice<'_>> =
            std::iter::once(&first).chain(&more).filter_map(Response::as_head_only).map(IoSlice::new).collect();
        let patience = self.context.shared.limits.idle_max;
        match timeout(patience, self.stream.write_vectored_all(&mut buffers)).await {
            Ok(written) => written.map_err(Ended::Write),
            Err(_) => Err(Ended::SlowReader),
        }
    }

    async fn send(&mut self, response: &Response) -> Result<(), Ended> {
        let patience =
            self.context.shared.limits.idle_max + Duration::from_secs(response.bytes() / READER_BYTES_PER_SECOND_MIN);
        match timeout(patience, response.send(&mut self.stream)).await {
            Ok(sent) => sent.map_err(Ended::Write),
            Err(_) => Err(Ended::SlowReader),
        }
    }
}
