//! Connections that nobody has come in by yet: few, and the oldest goes when one more comes. A node says who it is at
//! once, so that whoever is silent for long keeps nobody out.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Connections that wait for a handshake at the same time.
const HANDSHAKES_MAX: usize = 256;
/// That some had to go is said so often at most.
const REPORT_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Inner {
    begun: u64,
    /// By their numbers, which rise.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    reported: Option<Instant>,
}

/// All of a listener's.
#[derive(Debug, Clone, Default)]
pub(super) struct Handshakes(Arc<Mutex<Inner>>);

/// One that is waited for, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    number: u64,
    pushed_out: oneshot::Receiver<()>,
    all: Handshakes,
}

impl Handshakes {
    pub(super) fn begin(&self) -> Handshake {
        let mut inner = self.0.lock();
        if inner.waiting.len() >= HANDSHAKES_MAX {
            inner.waiting.pop_first();
            if inner.reported.is_none_or(|at| at.elapsed() >= REPORT_PAUSE) {
                inner.reported = Some(now());
                tracing::warn!(
                    "too many connections without a handshake at the listener for nodes: the oldest are closed"
                );
            }
        }
        inner.begun += 1;
        let number = inner.begun;
        let (sender, pushed_out) = oneshot::channel();
        inner.waiting.insert(number, sender);
        drop(inner);
        Handshake { number, pushed_out, all: self.clone() }
    }
}

impl Handshake {
    /// Returns when it is not waited for any more.
    pub(super) async fn pushed_out(&mut self) {
        // Its sender goes, and sends nothing.
        let _ = (&mut self.pushed_out).await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.0.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_goes() {
        let all = Handshakes::default();
        let mut begun: Vec<Handshake> = (0..HANDSHAKES_MAX).map(|_| all.begin()).collect();
        drop(begun.remove(1));
        let _in_its_place = all.begin();
        assert!(begun[0].pushed_out().now_or_never().is_none());
        let _one_more = all.begin();
        assert!(begun[0].pushed_out().now_or_never().is_some());
        assert!(begun[1].pushed_out().now_or_never().is_none());
    }
}
