//! A queue of many senders and one receiver, bounded in items and in bytes.
//!
//! An item that alone exceeds the bound in bytes is let in when the queue is empty: it is served
//! alone instead of never.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Makes a queue of at most `items_max` items with at most `bytes_max` bytes.
#[must_use]
pub fn bounded<T>(items_max: usize, bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    assert!(items_max > 0 && bytes_max > 0, "a queue that holds nothing never moves");
    let shared = Arc::new(Shared {
        items_max,
        bytes_max,
        state: Mutex::new(State {
            items: VecDeque::new(),
            bytes: 0,
            receiver: None,
            receiver_gone: false,
            senders: 1,
            senders_waiting: 0,
        }),
        room: Notify::new(),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// Why an item was not taken; it is given back.
#[derive(thiserror::Error)]
pub enum SendError<T> {
    #[error("the queue is full")]
    Full(T),
    #[error("the queue is closed")]
    Closed(T),
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}

/// The sending end.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The receiving end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    items_max: usize,
    bytes_max: usize,
    state: Mutex<State<T>>,
    room: Notify,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    receiver: Option<Waker>,
    receiver_gone: bool,
    senders: usize,
    senders_waiting: usize,
}

impl<T> Sender<T> {
    /// Puts `item`, which holds `bytes` bytes, at the end.
    ///
    /// # Errors
    /// When there is no room or the receiver is gone.
    pub fn try_send(&self, item: T, bytes: usize) -> Result<(), SendError<T>> {
        let waker = {
            let mut state = self.shared.state.lock();
            if state.receiver_gone {
                return Err(SendError::Closed(item));
            }
            if !self.shared.has_room(&state, bytes) {
                return Err(SendError::Full(item));
            }
            state.items.push_back((item, bytes));
            state.bytes += bytes;
            state.receiver.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Puts `item` at the end whether there is room or not. For what is small and rare and must pass.
    ///
    /// # Errors
    /// When the receiver is gone.
    pub fn send_over(&self, item: T) -> Result<(), SendError<T>> {
        let waker = {
            let mut state = self.shared.state.lock();
            if state.receiver_gone {
                return Err(SendError::Closed(item));
            }
            state.items.push_back((item, 0));
            state.receiver.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Puts `item` at the end as soon as there is room.
    ///
    /// # Errors
    /// When the receiver is gone.
    pub async fn send(&self, item: T, bytes: usize) -> Result<(), SendError<T>> {
        let mut item = match self.try_send(item, bytes) {
            Err(SendError::Full(item)) => item,
            done => return done,
        };
        let _waiting = Waiting::new(&self.shared);
        loop {
            let room = self.shared.room.notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            item = match self.try_send(item, bytes) {
                Err(SendError::Full(item)) => item,
                done => return done,
            };
            room.await;
        }
    }

    /// Items and bytes now in the queue.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.items.len(), state.bytes)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.state.lock().items.is_empty()
    }
}

impl<T> Receiver<T> {
    /// The next item; `None` when the queue is empty and every sender is gone.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| {
            let mut state = self.shared.state.lock();
            if let Some((item, bytes)) = state.items.pop_front() {
                state.bytes -= bytes;
                let wake = state.senders_waiting > 0;
                drop(state);
                if wake {
                    self.shared.room.notify_waiters();
                }
                return Poll::Ready(Some(item));
            }
            if state.senders == 0 {
                return Poll::Ready(None);
            }
            state.receiver = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits for an item and takes all there are, in order, into `items`. Returns how many;
    /// 0 when the queue is empty and every sender is gone.
    pub async fn recv_all(&mut self, items: &mut Vec<T>) -> usize {
        let Some(first) = self.recv().await else { return 0 };
        items.push(first);
        1 + self.drain(items, usize::MAX)
    }

    /// The next item, if there is one now.
    pub fn try_recv(&mut self) -> Option<T> {
        let mut items = Vec::new();
        self.drain_bounded(&mut items, 1, usize::MAX);
        items.pop()
    }

    /// Takes what is there now, in order, until `items` grew by `bytes_max` bytes. Never waits.
    pub fn drain(&mut self, items: &mut Vec<T>, bytes_max: usize) -> usize {
        self.drain_bounded(items, usize::MAX, bytes_max)
    }

    fn drain_bounded(&mut self, items: &mut Vec<T>, count_max: usize, bytes_max: usize) -> usize {
        let mut state = self.shared.state.lock();
        let (mut count, mut taken) = (0, 0);
        while count < count_max && taken < bytes_max {
            let Some((item, bytes)) = state.items.pop_front() else { break };
            state.bytes -= bytes;
            taken += bytes;
            count += 1;
            items.push(item);
        }
        let wake = count > 0 && state.senders_waiting > 0;
        drop(state);
        if wake {
            self.shared.room.notify_waiters();
        }
        count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.state.lock().items.is_empty()
    }
}

impl<T> Shared<T> {
    fn has_room(&self, state: &State<T>, bytes: usize) -> bool {
        state.items.is_empty()
            || (state.items.len() < self.items_max && state.bytes.saturating_add(bytes) <= self.bytes_max)
    }
}

struct Waiting<'a, T> {
    shared: &'a Shared<T>,
}

impl<'a, T> Waiting<'a, T> {
    fn new(shared: &'a Shared<T>) -> Self {
        shared.state.lock().senders_waiting += 1;
        Self { shared }
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.shared.state.lock().senders_waiting -= 1;
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().senders += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.state.lock();
            state.senders -= 1;
            if state.senders == 0 { state.receiver.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let items = {
            let mut state = self.shared.state.lock();
            state.receiver_gone = true;
            state.bytes = 0;
            std::mem::take(&mut state.items)
        };
        // Outside the lock: dropping an item may run code that uses the queue.
        drop(items);
        self.shared.room.notify_waiters();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sender").field("len", &self.len()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn items_come_out_in_order() {
        let (sender, mut receiver) = bounded(10, 100);
        for item in 0..5 {
            sender.try_send(item, 1).unwrap();
        }
        let mut items = Vec::new();
        assert_eq!(receiver.recv_all(&mut items).await, 5);
        assert_eq!(items, [0, 1, 2, 3, 4]);
        drop(sender);
        assert_eq!(receiver.recv().await, None);
    }

    #[test]
    fn both_bounds_hold_and_a_giant_is_served_alone() {
        let (sender, mut receiver) = bounded(2, 10);
        sender.try_send('a', 100).unwrap();
        assert!(matches!(sender.try_send('b', 0), Err(SendError::Full('b'))));
        assert_eq!(receiver.try_recv(), Some('a'));
        sender.try_send('c', 5).unwrap();
        assert!(matches!(sender.try_send('d', 6), Err(SendError::Full('d'))));
        sender.try_send('e', 5).unwrap();
        assert!(matches!(sender.try_send('f', 0), Err(SendError::Full('f'))));
    }

    #[tokio::test]
    async fn a_sender_waits_for_room() {
        let (sender, mut receiver) = bounded(1, 10);
        sender.send(1, 1).await.unwrap();
        let waiting = crate::task::spawn("test", {
            let sender = sender.clone();
            async move { sender.send(2, 1).await.is_ok() }
        });
        crate::task::yield_now().await;
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_closed_queue_gives_the_item_back() {
        let (sender, receiver) = bounded(1, 10);
        drop(receiver);
        assert!(matches!(sender.send(1, 1).await, Err(SendError::Closed(1))));
    }
}
