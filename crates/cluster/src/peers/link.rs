//! One connection to another node, from the side that opened it: calls and streams of calls, whose
//! frames go out in the order in which they were made.
//!
//! What waits to be sent is bounded in bytes, what was sent of a stream and has no answer too. A
//! node that is silent for [`SILENCE_MAX`] is given up, whatever its state: pings make sure that one
//! that works is never silent for so long.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use base::net::{ReadHalf, WriteHalf};
use base::queue::{self, Receiver, SendError, Sender};
use base::task::{JoinHandle, spawn};
use base::time::{Duration, now, timeout};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use record::ShardId;
use storage::Payload;
use tokio::sync::oneshot;

use super::frame::{BODY_BYTES_MAX, Frame, FrameReader, Role, Subject};
use super::lives::Presence;
use super::window::{WINDOW_FRAMES, Window};

/// What may wait to be sent over one connection.
const QUEUE_BYTES: usize = 8 << 20;
const QUEUE_FRAMES: usize = 4_096;
/// Answers of one stream that wait to be looked at: no more than there are requests without one.
const ANSWERS_MAX: usize = WINDOW_FRAMES + 1;
const ANSWERS_BYTES_MAX: usize = 8 << 20;
/// Calls that wait for their answers; fewer than the other side answers at once, so that it never
/// stops reading.
const CALLS_MAX: usize = 8_192;
/// Frames that one write takes, and bytes, but for the last frame.
const WRITE_FRAMES: usize = 64;
const WRITE_BYTES: usize = 256 << 10;
/// Pause between signs of life.
const PING_PAUSE: Duration = Duration::from_millis(500);
/// Who says nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// An open connection. Clones are the same; it is closed when the last goes, and every call and stream.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Sender<Frame>,
    calls: Mutex<Calls>,
    next_call: AtomicU64,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Calls {
    waiting: BTreeMap<u64, Waiting>,
    /// Why there is no connection any more.
    closed: Option<String>,
}

enum Waiting {
    /// For one answer.
    Call(oneshot::Sender<io::Result<Bytes>>),
    /// For the answers to a stream.
    Stream(Sender<io::Result<Bytes>>),
}

fn gone(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, reason.to_owned())
}

impl Link {
    /// Runs a connection whose handshake is done.
    pub(super) fn start(read: ReadHalf, write: WriteHalf, presence: Option<Presence>) -> Self {
        let reader = FrameReader::new(read, SILENCE_MAX, BODY_BYTES_MAX, presence);
        let (queue, receiver) = queue::bounded(QUEUE_FRAMES, QUEUE_BYTES);
        let shared =
            Arc::new(Shared { queue, calls: Mutex::default(), next_call: AtomicU64::new(1), tasks: Mutex::default() });
        let weak = Arc::downgrade(&shared);
        let reading = async move {
            let mut reader = reader;
            let reason = loop {
                match reader.next().await {
                    Ok(Some(frame)) => {
                        let Some(shared) = weak.upgrade() else { return };
                        shared.receive(frame);
                    }
                    Ok(None) => break "the other node closed the connection".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            if let Some(shared) = weak.upgrade() {
                shared.close(&reason);
            }
        };
        let weak = Arc::downgrade(&shared);
        let writing = async move {
            let Err(error) = write_frames(write, receiver, Frame::ping()).await else { return };
            if let Some(shared) = weak.upgrade() {
                shared.close(&error.to_string());
            }
        };
        {
            // Whoever closes it meanwhile waits for the tasks to be here.
            let mut tasks = shared.tasks.lock();
            *tasks = vec![spawn("link reader", reading), spawn("link writer", writing)];
        }
        Self { shared }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.calls.lock().closed.is_some()
    }

    /// Ends the connection: whoever waits for an answer gets an error.
    pub(crate) fn close(&self, reason: &str) {
        self.shared.close(reason);
    }

    /// Sends a request, in the order of these calls, and gives what will be the answer; fails at
    /// once when too much waits already or the request does not fit a frame.
    pub(crate) fn call(&self, subject: Subject, shard: ShardId, body: Payload) -> io::Result<CallAnswer> {
        check_body(&body)?;
        let call = self.shared.next_call.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.shared.wait(call, Waiting::Call(sender))?;
        let waiting = CallAnswer { answer, call, shared: Arc::clone(&self.shared) };
        let frame = Frame { role: Role::Call, subject, shard, call, body };
        let bytes = frame.bytes();
        match self.shared.queue.try_send(frame, bytes) {
            Ok(()) => Ok(waiting),
            Err(SendError::Full(_)) => Err(io::Error::new(io::ErrorKind::WouldBlock, "too much waits to be sent")),
            Err(SendError::Closed(_)) => Err(gone("the connection is closed")),
        }
    }

    /// Sends requests one behind the other; the answers come in their order. Requests are taken and
    /// sent while the answers are asked for, and no longer than these are there.
    pub(crate) fn stream(
        &self,
        subject: Subject,
        shard: ShardId,
        requests: BoxStream<'static, Payload>,
    ) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let call = self.shared.next_call.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = queue::bounded(ANSWERS_MAX, ANSWERS_BYTES_MAX);
        self.shared.wait(call, Waiting::Stream(sender))?;
        let open = OpenStream { call, subject, shard, shared: Arc::clone(&self.shared) };
        let queue = &self.shared.queue;
        queue.send_over(open.marker(Role::Open)).map_err(|_| gone("the connection is closed"))?;
        let window = Arc::new(Window::new());
        let sending = send_requests(queue.clone(), Arc::clone(&window), requests, (subject, shard, call)).boxed();
        let state = Streaming { answers, sending: Some(sending), window, _open: open };
        Ok(futures_util::stream::unfold(state, Streaming::next).boxed())
    }
}

fn check_body(body: &Payload) -> io::Result<()> {
    if body.len() <= BODY_BYTES_MAX {
        return Ok(());
    }
    let text = format!("a request of {} bytes between nodes, at most {BODY_BYTES_MAX} are possible", body.len());
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Sends what comes, as far as the window lets it; ends with the requests, or with the connection.
async fn send_requests(
    queue: Sender<Frame>,
    window: Arc<Window>,
    mut requests: BoxStream<'static, Payload>,
    (subject, shard, call): (Subject, ShardId, u64),
) -> io::Result<()> {
    while let Some(body) = requests.next().await {
        check_body(&body)?;
        window.enter(body.len()).await;
        let frame = Frame { role: Role::Item, subject, shard, call, body };
        let bytes = frame.bytes();
        queue.send(frame, bytes).await.map_err(|_| gone("the connection is closed"))?;
    }
    let end = Frame { role: Role::End, subject, shard, call, body: Payload::default() };
    queue.send_over(end).map_err(|_| gone("the connection is closed"))
}

/// A stream under way, as its answers are asked for.
struct Streaming {
    answers: Receiver<io::Result<Bytes>>,
    sending: Option<BoxFuture<'static, io::Result<()>>>,
    window: Arc<Window>,
    _open: OpenStream,
}

impl Streaming {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        loop {
            let Some(sending) = &mut self.sending else {
                let answer = self.answers.recv().await?;
                self.window.answered();
                return Some((answer, self));
            };
            let sent = tokio::select! {
                biased;
                answer = self.answers.recv() => {
                    let answer = answer?;
                    self.window.answered();
                    return Some((answer, self));
                }
                sent = sending => sent,
            };
            self.sending = None;
            if let Err(error) = sent {
                return Some((Err(error), self));
            }
        }
    }
}

/// The answer to a call, still to come. Whoever drops it is not waited for any more.
pub(crate) struct CallAnswer {
    answer: oneshot::Receiver<io::Result<Bytes>>,
    call: u64,
    shared: Arc<Shared>,
}

impl Future for CallAnswer {
    type Output = io::Result<Bytes>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = |_| Err(gone("the connection is closed"));
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.unwrap_or_else(ended))
    }
}

impl Drop for CallAnswer {
    fn drop(&mut self) {
        self.shared.calls.lock().waiting.remove(&self.call);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// A stream of requests, until it is dropped.
struct OpenStream {
    call: u64,
    subject: Subject,
    shard: ShardId,
    shared: Arc<Shared>,
}

impl OpenStream {
    fn marker(&self, role: Role) -> Frame {
        let Self { call, subject, shard, .. } = *self;
        Frame { role, subject, shard, call, body: Payload::default() }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.shared.calls.lock().waiting.remove(&self.call);
        // Also when it has ended over there: it is known there until it ends here.
        let _ = self.shared.queue.send_over(self.marker(Role::End));
    }
}

impl Shared {
    fn wait(&self, call: u64, waiting: Waiting) -> io::Result<()> {
        let mut calls = self.calls.lock();
        if let Some(reason) = &calls.closed {
            return Err(gone(reason));
        }
        if calls.waiting.len() >= CALLS_MAX {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "too many calls wait for their answers"));
        }
        calls.waiting.insert(call, waiting);
        Ok(())
    }

    /// Hands an answer to the one who waits for it. What nobody waits for any more is dropped.
    fn receive(&self, frame: Frame) {
        let Frame { role, call, body, .. } = frame;
        let body = body.to_bytes();
        let mut calls = self.calls.lock();
        match role {
            Role::Answer => match calls.waiting.get(&call) {
                Some(Waiting::Stream(answers)) => {
                    let bytes = body.len();
                    let sent = answers.try_send(Ok(body), bytes);
                    if matches!(sent, Err(SendError::Full(_))) {
                        drop(calls);
                        self.close("the other node answers more than it was asked");
                    }
                }
                Some(Waiting::Call(_)) => {
                    if let Some(Waiting::Call(answer)) = calls.waiting.remove(&call) {
                        let _ = answer.send(Ok(body));
                    }
                }
                None => {}
            },
            Role::Refusal => {
                let error = io::Error::other(String::from_utf8_lossy(&body).into_owned());
                match calls.waiting.remove(&call) {
                    Some(Waiting::Stream(answers)) => drop(answers.send_over(Err(error))),
                    Some(Waiting::Call(answer)) => drop(answer.send(Err(error))),
                    None => {}
                }
            }
            Role::End => drop(calls.waiting.remove(&call)),
            Role::Pong => {}
            Role::Call | Role::Open | Role::Item | Role::Ping => {
                drop(calls);
                self.close("the other node sent what only the one that connects may send");
            }
        }
    }

    fn close(&self, reason: &str) {
        let waiting = {
            let mut calls = self.calls.lock();
            if calls.closed.is_some() {
                return;
            }
            calls.closed = Some(reason.to_owned());
            std::mem::take(&mut calls.waiting)
        };
        for (_, waiting) in waiting {
            match waiting {
                Waiting::Call(answer) => drop(answer.send(Err(gone(reason)))),
                Waiting::Stream(answers) => drop(answers.send_over(Err(gone(reason)))),
            }
        }
        // Without its tasks the halves go, and the socket with them.
        self.tasks.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(JoinHandle::abort);
    }
}

/// Writes frames in their order, several with one write, and `sign` whenever [`PING_PAUSE`] has
/// passed: so that silence says something of a node's life, and not of what stands before it. Ends
/// when nobody can send any more, or with the error of the write.
pub(crate) async fn write_frames(mut write: WriteHalf, mut queue: Receiver<Frame>, sign: Frame) -> io::Result<()> {
    let mut frames = Vec::with_capacity(WRITE_FRAMES);
    let mut sign_at = now();
    loop {
        let first = if now() >= sign_at {
            sign_at = now() + PING_PAUSE;
            Some(sign.clone())
        } else {
            match timeout(sign_at.saturating_duration_since(now()), queue.recv()).await {
                Ok(frame) => frame,
                Err(_) => continue,
            }
        };
        let Some(first) = first else { return Ok(()) };
        let mut bytes = first.bytes();
        frames.push(first);
        while frames.len() < WRITE_FRAMES
            && bytes < WRITE_BYTES
            && let Some(frame) = queue.try_recv()
        {
            bytes += frame.bytes();
            frames.push(frame);
        }
        let headers: Vec<_> = frames.iter().map(Frame::header).collect();
        let mut slices = Vec::with_capacity(2 * frames.len());
        for (header, frame) in headers.iter().zip(&frames) {
            slices.push(IoSlice::new(header));
            slices.extend(frame.body.buffers().iter().map(|buffer| IoSlice::new(buffer)));
        }
        write.write_vectored_all(&mut slices).await?;
        frames.clear();
    }
}
