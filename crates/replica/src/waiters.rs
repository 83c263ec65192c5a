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

    /// A look found `bytes` of what was wanted. What grew before the look may have counted as well, so the reader may be
    /// woken too early, never too late.
    pub fn found(&self, bytes: u64) {
        if self.grown(bytes) {
            self.wake();
        }
    }

    /// Wakes the reader; wake-ups before it looks are one.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Returns once the waiter has been woken since the last return.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Counts; whether the reader has what it wants.
    fn grown(&self, bytes: u64) -> bool {
        let grown = clamp(bytes);
        self.missing.fetch_sub(grown, Ordering::SeqCst) <= grown
    }
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 2).min(i64::MAX / 2)
}

/// A subscription of a waiter to a stream. Knows its place among the stream's others, so that it is
/// found however many they are.
#[derive(Debug)]
pub struct Seat {
    at: Arc<At>,
}

#[derive(Debug)]
struct At {
    stream: StreamId,
    waiter: Arc<Waiter>,
    /// Changed under the lock only.
    place: AtomicUsize,
}

/// The waiters of one shard's streams.
///
/// Apply tells them what has grown, so under the lock nobody is woken, and nothing is searched for.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// How many subscriptions there are, so that apply passes by when nobody waits.
    count: AtomicUsize,
    streams: Mutex<FixedHashMap<StreamId, SmallVec<[Arc<At>; 2]>>>,
}

impl Waiters {
    pub(crate) fn subscribe(&self, stream: StreamId, waiter: &Arc<Waiter>) -> Seat {
        let mut streams = self.streams.lock();
        let seats = streams.entry(stream).or_default();
        let at = Arc::new(At { stream, waiter: Arc::clone(waiter), place: AtomicUsize::new(seats.len()) });
        seats.push(Arc::clone(&at));
        self.count.fetch_add(1, Ordering::SeqCst);
        Seat { at }
    }

    /// Ends a subscription, which MUST be one of these waiters'.
    pub(crate) fn unsubscribe(&self, seat: Seat) {
        let Seat { at } = seat;
        let mut streams = self.streams.lock();
        let seats = streams.get_mut(&at.stream).expect("a stream is known while it has a seat");
        let place = at.place.load(Ordering::Relaxed);
        assert!(Arc::ptr_eq(&seats[place], &at), "a seat is where it says");
        seats.swap_remove(place);
        if let Some(moved) = seats.get(place) {
            moved.place.store(place, Ordering::Relaxed);
        }
        if seats.is_empty() {
            streams.remove(&at.stream);
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Tells the readers that these streams grew by so many bytes. The caller has made visible what
    /// they wait for before.
    pub(crate) fn grown(&self, streams: impl Iterator<Item = (StreamId, u64)>) {
        self.wake_if(streams, Waiter::grown);
    }

    /// Wakes the readers of `streams`, whatever they want.
    pub(crate) fn wake(&self, streams: impl Iterator<Item = StreamId>) {
        self.wake_if(streams.map(|stream| (stream, 0)), |_, _| true);
    }

    fn wake_if(&self, streams: impl Iterator<Item = (StreamId, u64)>, is_due: impl Fn(&Waiter, u64) -> bool) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut due = Due::new();
        {
            let subscribed = self.streams.lock();
            for (stream, bytes) in streams {
                let seats = subscribed.get(&stream).into_iter().flatten();
                due.extend(seats.filter(|at| is_due(&at.waiter, bytes)).map(|at| Arc::clone(&at.waiter)));
            }
        }
        due.iter().for_each(|waiter| waiter.wake());
    }

    /// Wakes everybody: leadership changed or the shard goes out of service.
    pub(crate) fn wake_all(&self) {
        let due: Due = self.streams.lock().values().flatten().map(|at| Arc::clone(&at.waiter)).collect();
        due.iter().for_each(|waiter| waiter.wake());
    }
}

/// Those who are woken when the lock is given back.
type Due = SmallVec<[Arc<Waiter>; 8]>;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Wake};

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
    fn what_a_look_finds_is_no_longer_waited_for() {
        let (waiters, waiter) = (Waiters::default(), Waiter::new(100));
        waiters.subscribe(ONE, &waiter);
        waiter.found(60);
        assert!(waiter.woken().now_or_never().is_none());
        waiters.grown([(ONE, 40)].into_iter());
        assert!(waiter.woken().now_or_never().is_some());
        waiter.want(100);
        waiters.grown([(ONE, 50)].into_iter());
        waiter.found(50);
        assert!(waiter.woken().now_or_never().is_some(), "both are the same bytes: it looks once more");
    }

    #[test]
    fn only_the_streams_readers_are_woken() {
        let (waiters, one, two) = (Waiters::default(), Waiter::new(1), Waiter::new(1));
        let seats = [(ONE, &one), (ONE, &one), (TWO, &two)].map(|(stream, waiter)| waiters.subscribe(stream, waiter));
        waiters.grown([(TWO, 1), (StreamId(3), 1)].into_iter());
        assert!(one.woken().now_or_never().is_none());
        assert!(two.woken().now_or_never().is_some());
        seats.into_iter().for_each(|seat| waiters.unsubscribe(seat));
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
        assert!(waiters.streams.lock().is_empty());
    }

    #[test]
    fn whoever_leaves_the_others_stay() {
        let waiters = Waiters::default();
        let readers: Vec<_> = (0..7).map(|_| Waiter::new(1)).collect();
        let mut seats: Vec<_> = readers.iter().map(|reader| (reader, Some(waiters.subscribe(ONE, reader)))).collect();
        for leaving in [3, 0, 6, 5, 1, 4, 2] {
            waiters.unsubscribe(seats[leaving].1.take().unwrap());
            waiters.wake([ONE].into_iter());
            for (reader, seat) in &seats {
                assert_eq!(reader.woken().now_or_never().is_some(), seat.is_some());
            }
        }
        assert!(waiters.streams.lock().is_empty());
    }

    /// A reader that looks whether the lock is free when it is woken.
    struct Looker(Arc<Waiters>, AtomicBool);

    impl Wake for Looker {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.streams.try_lock().is_some(), Ordering::SeqCst);
        }
    }

    #[test]
    fn nobody_is_woken_under_the_lock() {
        let (waiters, waiter) = (Arc::new(Waiters::default()), Waiter::new(1));
        let seat = waiters.subscribe(ONE, &waiter);
        let wakes: [&dyn Fn(); 3] =
            [&|| waiters.grown([(ONE, 1)].into_iter()), &|| waiters.wake([ONE].into_iter()), &|| waiters.wake_all()];
        for wake in wakes {
            let looker = Arc::new(Looker(Arc::clone(&waiters), AtomicBool::new(false)));
            let mut woken = Box::pin(waiter.woken());
            let waker = looker.clone().into();
            assert!(woken.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            wake();
            assert!(looker.1.load(Ordering::SeqCst));
            assert!(woken.now_or_never().is_some());
        }
        waiters.unsubscribe(seat);
    }

    /// Ten thousand readers of one stream come, are woken and go, thirty times: with a search for each it would be
    /// more than a thousand million steps.
    #[test]
    fn many_readers_of_one_stream_come_and_go_without_being_searched_for() {
        let waiters = Waiters::default();
        let readers: Vec<_> = (0..10_000).map(|_| Waiter::new(1)).collect();
        for _ in 0..30 {
            let seats: Vec<_> = readers.iter().map(|reader| waiters.subscribe(ONE, reader)).collect();
            waiters.wake([ONE].into_iter());
            seats.into_iter().for_each(|seat| waiters.unsubscribe(seat));
        }
        assert!(readers.iter().all(|reader| reader.woken().now_or_never().is_some()));
    }
}
