//! One connection: requests in, responses out, strictly in the order of the requests.
//!
//! Produce requests are submitted one behind the other without waiting for the former's commit, so that those in
//! flight share group commits; their order, and that of their answers, is kept. Every other request is served when all
//! before it are answered, as in Kafka. While it is served one read shows whether the client is still there.
//!
//! Memory of a request is given back before its response is sent, so that who does not read holds up nobody else.

mod sending;
mod submitting;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};

use base::net::Stream;
use base::time::{Duration, Instant, Sleep, now, sleep_until};
use sending::{counted, write};
use tokio::sync::watch;

use crate::context::Context;
use crate::frame::{Frame, FrameError, FrameReader, Hold, Incoming};
use crate::handlers::produce::{self, Produce, Sequences, Submission};
use crate::handlers::{self, ServeError};
use crate::handshake::{ApiKey, HeaderError, RequestHeader};
use crate::limits::IN_FLIGHT_MAX;
use crate::wire::read::Malformed;
use crate::wire::response::{EncodeError, Response};

/// How often deadlines are looked at while something is under way.
const TICK: Duration = Duration::from_secs(1);

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
    #[error("memory for answers is used up, and a response of {0} bytes cannot wait for it")]
    NoMemory(usize),
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
            | Self::SlowReader
            | Self::NoMemory(_) => false,
        }
    }
}

pub(crate) struct Connection {
    context: Context,
    peer: SocketAddr,
    stream: Stream,
    frames: FrameReader,
    in_flight: VecDeque<Produce>,
    sequences: Sequences,
    timer: Pin<Box<Sleep>>,
    active: Instant,
    /// How far reading was when it was last seen to move, and when that was.
    seen: (u64, Instant),
    shutdown: watch::Receiver<bool>,
}

enum Event {
    Answerable,
    Request(Frame),
    Begun,
    Gone(Result<(), FrameError>),
    Tick,
    Shutdown,
}

impl Connection {
    pub(crate) fn new(context: Context, stream: Stream, peer: SocketAddr, shutdown: watch::Receiver<bool>) -> Self {
        let limits = &context.shared.limits;
        let frames = FrameReader::new(context.shared.memory.clone(), limits.request_bytes_max);
        let sequences = Sequences::new(context.shared.memory.refused.clone());
        let now = now();
        let timer = Box::pin(sleep_until(now + limits.idle_max));
        Self {
            context,
            peer,
            stream,
            frames,
            in_flight: VecDeque::new(),
            sequences,
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
                Event::Begun => {
                    let now = now();
                    self.seen = (self.frames.progress(), now);
                    self.look_at(now + TICK);
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
        let Self { stream, frames, in_flight, timer, shutdown, .. } = self;
        tokio::select! {
            biased;
            () = front_completed(in_flight), if !in_flight.is_empty() => Event::Answerable,
            frame = frames.next(stream), if has_room => match frame {
                Ok(Incoming::Request(frame)) => Event::Request(frame),
                Ok(Incoming::Begun) => Event::Begun,
                Ok(Incoming::End) => Event::Gone(Ok(())),
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
        } else if self.frames.is_starved() || self.in_flight.len() >= IN_FLIGHT_MAX {
            // It is us who do not read.
            self.seen.1 = now;
        }
        let mid_frame = self.frames.is_mid_frame();
        if mid_frame && now.duration_since(self.seen.1) >= shared.limits.stall_max && shared.memory.is_short() {
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

    /// Makes sure that deadlines are looked at then.
    fn look_at(&mut self, soon: Instant) {
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
        let mut header = RequestHeader::parse(&body)?;
        // Taken, because it is a slice of the request.
        self.context.set_client_id(header.client_id.take().as_deref());
        let (key, version) = (header.api.key, header.version);
        if key == ApiKey::Produce {
            let request = produce::decode(&self.context, &header, &body).map_err(|cause| Ended::Malformed {
                key,
                version,
                cause,
            })?;
            let memory = self.context.shared.memory.clone();
            let decoded = match memory.try_acquire_decoded(request.cost) {
                Some(permit) => permit,
                None => {
                    // Nobody waits for it who holds some of it.
                    self.drain().await?;
                    let shutdown = &mut self.shutdown;
                    tokio::select! {
                        biased;
                        permit = memory.acquire_decoded(request.cost) => permit,
                        _ = shutdown.wait_for(|stopping| *stopping) => return Err(unanswered()),
                    }
                }
            };
            let request = produce::check(&self.context, &header, request).await;
            return self.submit(Submission::new(header, request, body.len(), (hold, decoded), self.active)).await;
        }
        self.drain().await?;
        let response = match self.work(&header, body, hold).await? {
            Some(response) => response.map_err(|error| match error {
                ServeError::Malformed(cause) => Ended::Malformed { key, version, cause },
                ServeError::Encode(cause) => Ended::Encode { key, version, cause },
            })?,
            // Nobody waits for the answer, or nobody will make it.
            None => return Err(unanswered()),
        };
        self.send(&response).await?;
        self.active = now();
        Ok(())
    }

    /// Serves one request while listening to the client. `None` when the client went away, or the broker stops, while
    /// the request waits for what others do. What a join or a sync did to its group stays done.
    async fn work(
        &mut self,
        header: &RequestHeader,
        body: bytes::Bytes,
        hold: Hold,
    ) -> Result<Option<Result<Response, ServeError>>, Ended> {
        let Self { context, stream, frames, shutdown, .. } = self;
        let waits = matches!(header.api.key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup);
        let mut work = Box::pin(handlers::serve(context, header, body, hold));
        let mut listening = !frames.is_mid_frame();
        loop {
            tokio::select! {
                biased;
                response = &mut work => return Ok(Some(response)),
                _ = shutdown.wait_for(|stopping| *stopping), if waits => return Ok(None),
                heard = frames.listen(stream), if listening => {
                    listening = false;
                    // Elsewhere it will be seen again by whoever reads next.
                    if waits && !matches!(heard, Ok(true)) {
                        return Ok(None);
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
                () = front_completed(in_flight) => self.answer_completed().await?,
                () = timer => {
                    // It is us who do not read.
                    self.seen.1 = now();
                    self.tick()?;
                }
            }
        }
        Ok(())
    }

    /// Answers every produce request at the front that is complete, all in one write.
    async fn answer_completed(&mut self) -> Result<(), Ended> {
        let mut responses = Vec::new();
        let mut failed = Ok(());
        let settled = now();
        while let Some(produce) = self.in_flight.front_mut() {
            // Those behind the first may be complete, too: one group commit ends many. Who is not is asked again, with a
            // waker, when its turn comes.
            if produce.poll(&mut TaskContext::from_waker(Waker::noop())).is_pending() {
                break;
            }
            let mut produce = self.in_flight.pop_front().expect("front was there");
            produce.settle_sequences(&mut self.sequences, settled);
            let (key, version) = (ApiKey::Produce, produce.version());
            match produce.answer(&self.context.shared) {
                Ok(Some(response)) => responses.push(response),
                Ok(None) => {}
                Err(failure) => {
                    failed = Err(match failure {
                        produce::Unanswerable::Failed { code } => Ended::Unacknowledged { code },
                        produce::Unanswerable::Encode(cause) => Ended::Encode { key, version, cause },
                    });
                    break;
                }
            }
        }
        // Those before one that failed were promised an answer, and what they asked for is done.
        match &responses[..] {
            [] => {}
            [response] => self.send(response).await?,
            responses => {
                let mut buffers: Vec<IoSlice<'_>> =
                    responses.iter().filter_map(Response::as_head_only).map(IoSlice::new).collect();
                let bytes = responses.iter().map(Response::head_bytes).sum();
                let Self { context, stream, in_flight, .. } = self;
                let _memory = counted(&context.shared, bytes).await?;
                write(&context.shared, bytes as u64, in_flight, stream.write_vectored_all(&mut buffers)).await?;
            }
        }
        failed
    }

    async fn send(&mut self, response: &Response) -> Result<(), Ended> {
        let Self { context, stream, in_flight, .. } = self;
        let _memory = counted(&context.shared, response.head_bytes()).await?;
        write(&context.shared, response.bytes(), in_flight, response.send(stream)).await
    }
}

/// The end of a connection with a request that nobody answers.
fn unanswered() -> Ended {
    Ended::Frame(FrameError::Io(io::ErrorKind::ConnectionReset.into()))
}

/// Ends when the oldest request is complete.
async fn front_completed(in_flight: &mut VecDeque<Produce>) {
    poll_fn(|task| in_flight.front_mut().map_or(Poll::Ready(()), |produce| produce.poll(task))).await;
}
