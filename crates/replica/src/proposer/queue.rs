//! What waits for its entry: in order of arrival, bounded by bytes and by count.
//!
//! Bytes count from the arrival until the entry that holds them is handed to consensus, so that
//! the memory of a shard's writers is bounded whatever the disk does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use shard::Command;
use smallvec::SmallVec;
use storage::{Buffers, Payload};
use tokio::sync::Notify;

use crate::errors::ProposeError;
use crate::pending::Answer;

/// One command that waits, with its body and the one who wants to know.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) command: Command,
    pub(crate) body: Buffers,
    pub(crate) answer: Answer,
    bytes: usize,
}

/// What a command counts for besides its encoded form and its body: its place in the queue, the
/// answer's channel, its own memory.
const ITEM_BYTES: usize = 256;

impl Item {
    /// An append or a part of one: its body is what counts.
    pub(crate) fn with_body(command: Command, body: Payload, answer: Answer) -> Self {
        assert_eq!(command.body_bytes() as usize, body.len(), "the command tells the body's size");
        let bytes = ITEM_BYTES + body.len();
        Self { command, body: body.into_buffers(), answer, bytes }
    }

    /// A command without a body, refused when its encoded form is larger than a command may be.
    pub(crate) fn without_body(command: Command, bytes_max: usize, answer: Answer) -> Result<Self, ProposeError> {
        let mut encoded = Vec::new();
        command.encode(&mut encoded);
        if encoded.len() > bytes_max {
            return Err(ProposeError::TooLarge { bytes: encoded.len(), bytes_max });
        }
        Ok(Self { command, body: Buffers::new(), answer, bytes: ITEM_BYTES + encoded.len() })
    }

    /// Whether the command wants an entry of its own: a seal ends before its entry, and is cheap
    /// when nothing that it leaves behind stands there.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.command, Command::Seal(_))
    }

    /// What the item counts for in the bounds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The queue of one shard: many may push, one task takes.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// Bytes that arrived and are not yet handed over, in `inner` or taken by the proposer.
    bytes: AtomicUsize,
    count: AtomicUsize,
    bytes_max: usize,
    count_max: usize,
    /// Wakes the proposer: something arrived, an entry ended, or the world changed.
    pub(crate) wake: Notify,
    /// Wakes those who wait for room.
    room: Notify,
}

#[derive(Debug)]
struct Inner {
    items: VecDeque<Item>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize, count_max: usize) -> Self {
        assert!(bytes_max > 0 && count_max > 0, "a queue without room would refuse everything");
        Self {
            inner: Mutex::new(Inner { items: VecDeque::new(), closed: false }),
            bytes: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            bytes_max,
            count_max,
            wake: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Takes all of `items` or none, together and in order. A full queue takes nothing; one that
    /// has any room takes what is given, so that the largest batch always finds its way.
    pub(crate) fn push(&self, items: SmallVec<[Item; 1]>) -> Result<(), ProposeError> {
        self.push_if(items, Self::has_room)
    }

    /// As [`Self::push`], past the bounds: for the few commands that the node itself makes, which
    /// would lose every race for room against writers.
    pub(crate) fn push_over(&self, item: Item) -> Result<(), ProposeError> {
        self.push_if(SmallVec::from_buf([item]), |_| true)
    }

    /// `may_enter` decides with the queue locked.
    pub(super) fn push_if(
        &self,
        items: SmallVec<[Item; 1]>,
        may_enter: impl FnOnce(&Self) -> bool,
    ) -> Result<(), ProposeError> {
        let bytes: usize = items.iter().map(Item::bytes).sum();
        let count = items.len();
        {
            let mut inner = self.inner.lock();
            if inner.closed {
                return Err(ProposeError::Stopped);
            }
            if !may_enter(self) {
                return Err(ProposeError::Busy);
            }
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
            self.count.fetch_add(count, Ordering::AcqRel);
            inner.items.extend(items);
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Moves everything that arrived behind what `backlog` holds.
    pub(crate) fn take(&self, backlog: &mut VecDeque<Item>) {
        let mut inner = self.inner.lock();
        if backlog.is_empty() {
            std::mem::swap(backlog, &mut inner.items);
        } else {
            backlog.append(&mut inner.items);
        }
    }

    /// The items of these sizes left the queue's account.
    pub(crate) fn release(&self, bytes: usize, count: usize) {
        let bytes_before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        let count_before = self.count.fetch_sub(count, Ordering::AcqRel);
        assert!(bytes_before >= bytes && count_before >= count, "the queue lets go of more than it holds");
        if bytes_before >= self.bytes_max || count_before >= self.count_max {
            self.room.notify_waiters();
        }
    }

    /// Nothing is taken any more; what is inside stays for the proposer to end.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.wake.notify_one();
        self.room.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Acquire) < self.bytes_max && self.count.load(Ordering::Acquire) < self.count_max
    }

    /// Returns once there is room, or the queue is closed.
    pub(crate) async fn room(&self) {
        loop {
            let notified = self.room.notified();
            if self.has_room() || self.is_closed() {
                return;
            }
            notified.await;
        }
    }

    /// Bytes on the queue's account.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }
}
