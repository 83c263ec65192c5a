//! One connection from another node, from the side that was called: requests are handed on in the
//! order in which they came, answers go back as they are ready.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use base::net::{ReadHalf, WriteHalf};
use base::queue::{self, Sender};
use base::task::JoinSet;
use base::time::Duration;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use record::{NodeId, ShardId};
use storage::Payload;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::frame::{BODY_BYTES_MAX, Frame, FrameReader, Role, Subject};
use super::link::write_frames;
use super::lives::Presence;
use super::window::{WINDOW_BYTES, WINDOW_FRAMES};

/// Answers that wait to be sent over one connection.
const QUEUE_BYTES: usize = 8 << 20;
const QUEUE_FRAMES: usize = 4_096;
/// Calls of one connection that are answered at the same time; more are not read.
const CALLS_MAX: usize = 16_384;
/// Streams of one connection: a group has one.
const STREAMS_MAX: usize = 1_024;
/// Requests of one stream that wait: as many as its window lets be under way.
const STREAM_FRAMES_MAX: usize = WINDOW_FRAMES + 1;
/// What requests of one connection hold until they are answered, or taken out of their stream; more
/// are not read.
const HELD_BYTES: usize = 32 << 20;
/// What a guest's request may have.
const GUEST_BODY_BYTES_MAX: usize = 64 << 10;
/// Pings come far more often.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// No node for a guest, who may be anybody.
    pub(crate) node: Option<NodeId>,
    /// The level of features that its program knows.
    pub(crate) features: u32,
}

/// What a node answers others.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request. MUST take its place in the order when called, not when polled.
    fn call(
        &self,
        from: Caller,
        subject: Subject,
        shard: ShardId,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Payload, String>>;

    /// Answers a stream of requests in their order.
    fn stream(
        &self,
        from: Caller,
        subject: Subject,
        shard: ShardId,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>>;
}

/// Serves a connection whose handshake is done until it ends; says why, if not in order.
pub(super) async fn serve(
    read: ReadHalf,
    write: WriteHalf,
    (from, presence): (Caller, Option<Presence>),
    service: Arc<dyn Service>,
) -> io::Result<()> {
    let (answers, receiver) = queue::bounded(QUEUE_FRAMES, QUEUE_BYTES);
    let body_max = if from.node.is_some() { BODY_BYTES_MAX } else { GUEST_BODY_BYTES_MAX };
    let mut reader = FrameReader::new(read, SILENCE_MAX, body_max, presence);
    let mut connection = Connection {
        from,
        service,
        answers,
        calls: Arc::new(Semaphore::new(CALLS_MAX)),
        held: Arc::new(Semaphore::new(HELD_BYTES)),
        streams: BTreeMap::new(),
        // Dropped with the connection: nothing goes on for a node that is not there.
        tasks: JoinSet::new(),
    };
    let writing = write_frames(write, receiver, Frame::pong());
    let mut writing = std::pin::pin!(writing);
    loop {
        let frame = tokio::select! {
            written = &mut writing => return written,
            frame = reader.next() => frame?,
        };
        let Some(frame) = frame else { return Ok(()) };
        let taken = connection.take(frame);
        tokio::select! {
            written = &mut writing => return written,
            taken = taken => taken?,
        }
    }
}

struct Connection {
    from: Caller,
    service: Arc<dyn Service>,
    answers: Sender<Frame>,
    calls: Arc<Semaphore>,
    held: Arc<Semaphore>,
    streams: BTreeMap<u64, Sender<(Bytes, OwnedSemaphorePermit)>>,
    tasks: JoinSet<()>,
}

fn violation(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

async fn answer(answers: &Sender<Frame>, frame: Frame) {
    let bytes = frame.bytes();
    // Nobody is there to hear it once the connection is gone.
    let _ = answers.send(frame, bytes).await;
}

impl Connection {
    async fn take(&mut self, frame: Frame) -> io::Result<()> {
        while self.tasks.try_join_next().is_some() {}
        let Frame { role, subject, shard, call, body } = frame;
        let body = body.to_bytes();
        match role {
            Role::Call => {
                let calls = Arc::clone(&self.calls);
                let permit = calls.acquire_owned().await.expect("never closed");
                let held = self.hold(body.len()).await;
                let outcome = self.service.call(self.from, subject, shard, body);
                let answers = self.answers.clone();
                self.tasks.spawn(async move {
                    let (role, body) = match outcome.await {
                        Ok(body) if body.len() > BODY_BYTES_MAX => {
                            let text = format!("the answer has {} bytes, more than a frame", body.len());
                            (Role::Refusal, Payload::from(Bytes::from(text)))
                        }
                        Ok(body) => (Role::Answer, body),
                        Err(text) => (Role::Refusal, Payload::from(Bytes::from(text))),
                    };
                    answer(&answers, Frame { role, subject, shard, call, body }).await;
                    drop((permit, held));
                });
            }
            Role::Open => self.open(subject, shard, call)?,
            Role::Item => {
                // One may be under way when its stream ends.
                if !self.streams.contains_key(&call) {
                    return Ok(());
                }
                let bytes = body.len();
                let held = self.hold(bytes).await;
                let Some(stream) = self.streams.get(&call) else { return Ok(()) };
                match stream.try_send((body, held), bytes) {
                    // A stream that was refused is not read any more.
                    Ok(()) | Err(queue::SendError::Closed(_)) => {}
                    Err(queue::SendError::Full(_)) => return Err(violation("a stream exceeds its window")),
                }
            }
            Role::End => drop(self.streams.remove(&call)),
            // Both sides say by time that they live.
            Role::Ping => {}
            Role::Answer | Role::Refusal | Role::Pong => {
                return Err(violation("an answer came to a node that asked nothing"));
            }
        }
        Ok(())
    }

    /// Waits until so much may be held.
    async fn hold(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.min(HELD_BYTES)).expect("a few megabytes");
        let held = Arc::clone(&self.held);
        held.acquire_many_owned(bytes).await.expect("never closed")
    }

    fn open(&mut self, subject: Subject, shard: ShardId, call: u64) -> io::Result<()> {
        if self.streams.len() >= STREAMS_MAX {
            return Err(violation("too many streams"));
        }
        let (sender, receiver) = queue::bounded(STREAM_FRAMES_MAX, 2 * WINDOW_BYTES);
        if self.streams.insert(call, sender).is_some() {
            return Err(violation("a stream is opened twice"));
        }
        let requests = stream::unfold(receiver, |mut receiver| async {
            let (body, _held) = receiver.recv().await?;
            Some((body, receiver))
        });
        let opened = self.service.stream(self.from, subject, shard, requests.boxed());
        let answers = self.answers.clone();
        self.tasks.spawn(async move {
            let frame = |role, body| Frame { role, subject, shard, call, body };
            let refusal = |text: String| frame(Role::Refusal, Payload::from(Bytes::from(text)));
            let mut results = match opened.await {
                Ok(results) => results,
                Err(text) => return answer(&answers, refusal(text)).await,
            };
            while let Some(result) = results.next().await {
                match result {
                    Ok(body) => answer(&answers, frame(Role::Answer, Payload::from(body))).await,
                    Err(text) => return answer(&answers, refusal(text)).await,
                }
            }
            answer(&answers, frame(Role::End, Payload::default())).await;
        });
        Ok(())
    }
}
