//! Who waits for a stream to grow.
//!
//! A wake-up is never lost: the waiter subscribes first and looks at the stream afterwards, and
//! [`Waiter::woken`] returns at once if a wake-up came between the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use base::hash::FixedHashMap;
use parking_lot::Mutex;
use record::StreamId;
use smallvec::SmallVec;
use tokio::sync::Notify;

/// One waiting reader; it may be subscribed to many streams of many shards at once. It is woken
/// when these streams together grew by what it wants, and at once by anything else.
#[derive(Debug)]
pub struct Waiter {
    /// Bytes still missing; growth below zero is ignored.
    missing: AtomicI64,
    notify: Notify,
}

impl Waiter {
    /// A waiter that is subscribed to nothing and wants `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { missing: AtomicI64::new(clamp(bytes)), notify: Notify::new() })
    }

    /// Begins to count anew. MUST be called before looking at the streams: what grows between the
    /// call and the look counts although the look finds it, so the reader may be woken too early,
    /// never too late.
    pub fn want(&self, bytes: u64) {
        self.missing.store(clamp(bytes), Ordering::SeqCst);
    }

    /// Wakes the reader; wake-ups before it looks are one.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Returns once the waiter has been woken since the last return.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    fn grown(&self, bytes: u64) {
        let grown = clamp(bytes);
        let before = self.missing.fetch_sub(grown, Ordering::SeqCst);
        if before <= grown {
            self.wake();
        }
    }
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 2).min(i64::MAX / 2)
}

/// The waiters of one shard's streams.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// How many subscriptions there are, so that apply passes by when nobody waits.
    count: AtomicUsize,
    streams: Mutex<FixedHashMap<StreamId, SmallVec<[Arc<Waiter>; 2]>>>,
}

impl Waiters {
    pub(crate) fn subscribe(&self, stream: StreamId, waiter: &Arc<Waiter>) {
        let mut streams = self.streams.lock();
        let waiters = streams.entry(stream).or_default();
        if !waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            waiters.push(Arc::clone(waiter));
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn unsubscribe(&self, stream: StreamId, waiter: &Arc<Waiter>) {
        let mut streams = self.streams.lock();
        let Some(waiters) = streams.get_mut(&stream) else { return };
        let before = waiters.len();
        waiters.retain(|known| !Arc::ptr_eq(known, waiter));
        let removed = before - waiters.len();
        if waiters.is_empty() {
            streams.remove(&stream);
        }
        self.count.fetch_sub(removed, Ordering::SeqCst);
    }

    /// Tells the readers that these streams grew by so many bytes. The caller has made visible what
    /// they wait for before.
    pub(crate) fn grown(&self, streams: impl Iterator<Item = (StreamId, u64)>) {
        self.each(streams, |waiter, bytes| waiter.grown(bytes));
    }

    /// Wakes the readers of `streams`, whatever they want.
    pub(crate) fn wake(&self, streams: impl Iterator<Item = StreamId>) {
        self.each(streams.map(|stream| (stream, 0)), |waiter, _| waiter.wake());
    }

    fn each(&self, streams: impl Iterator<Item = (StreamId, u64)>, tell: impl Fn(&Waiter, u64)) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let subscribed = self.streams.lock();
        for (stream, bytes) in streams {
            if let Some(waiters) = subscribed.get(&stream) {
                waiters.iter().for_each(|waiter| tell(waiter, bytes));
            }
        }
    }

    /// Wakes everybody: leadership changed or the shard goes out of service.
    pub(crate) fn wake_all(&self) {
        let subscribed = self.streams.lock();
        subscribed.values().flatten().for_each(|waiter| waiter.wake());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ONE: StreamId = StreamId(1);
    const TWO: StreamId = StreamId(2);

    #[test]
    fn a_wake_up_before_waiting_is_kept() {
        let (waiters, waiter) = (Waiters::default(), Waiter::new(1));
        waiters.subscribe(ONE, &waiter);
        waiters.wake([ONE, ONE].into_iter());
        assert!(waiter.woken().now_or_never().is_some());
        assert!(waiter.woken().now_or_never().is_none(), "several wake-ups are one");
    }

    #[test]
    fn a_waiter_is_woken_when_its_streams_together_grew_by_what_it_wants() {
        let (waiters, waiter) = (Waiters::default(), Waiter::new(100));
        waiters.subscribe(ONE, &waiter);
        waiters.subscribe(TWO, &waiter);
        waiters.grown([(ONE, 60)].into_iter());
        assert!(waiter.woken().now_or_never().is_none());
        waiters.grown([(StreamId(3), 60), (TWO, 40)].into_iter());
        assert!(waiter.woken().now_or_never().is_some());
        waiter.want(10);
        waiters.grown([(ONE, 9)].into_iter());
        assert!(waiter.woken().now_or_never().is_none());
    }

    #[test]
    fn only_the_streams_readers_are_woken() {
        let (waiters, one, two) = (Waiters::default(), Waiter::new(1), Waiter::new(1));
        waiters.subscribe(ONE, &one);
        waiters.subscribe(ONE, &one);
        waiters.subscribe(TWO, &two);
        waiters.grown([(TWO, 1), (StreamId(3), 1)].into_iter());
        assert!(one.woken().now_or_never().is_none());
        assert!(two.woken().now_or_never().is_some());
        waiters.unsubscribe(ONE, &one);
        waiters.unsubscribe(TWO, &two);
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
        assert!(waiters.streams.lock().is_empty());
    }
}
