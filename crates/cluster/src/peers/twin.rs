//! What the others say when another process runs as this node. For a moment that may be its own earlier process, of which
//! they do not know yet that it is gone; who hears it for long runs on a copy of a data directory.

use std::collections::BTreeMap;
use std::io;

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use record::NodeId;
use tokio::sync::watch;

use super::greeting::TWIN;

/// A node says it for so long before it is believed: longer than it takes until a computer without power is given up.
const DOUBT_TIME: Duration = Duration::from_secs(5);
/// What was said so long after it was said last is said anew.
const DOUBT_PAUSE_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Said {
    since: Instant,
    last: Instant,
}

/// What the other nodes say: at most those that have an address.
#[derive(Debug, Default)]
pub(super) struct Twin {
    said: Mutex<BTreeMap<NodeId, Said>>,
    /// What one of them has been saying for long.
    certain: watch::Sender<Option<String>>,
}

impl Twin {
    /// The node has refused this one.
    pub(super) fn refused(&self, node: NodeId, error: &io::Error) {
        if error.kind() != TWIN {
            return self.end(node);
        }
        let mut said = self.said.lock();
        let said = said.entry(node).or_insert_with(|| Said { since: now(), last: now() });
        if said.last.elapsed() > DOUBT_PAUSE_MAX {
            said.since = now();
        }
        said.last = now();
        if said.since.elapsed() >= DOUBT_TIME {
            self.certain.send_if_modified(|certain| certain.is_none() && certain.replace(error.to_string()).is_none());
        }
    }

    /// The node says so no more.
    pub(super) fn end(&self, node: NodeId) {
        self.said.lock().remove(&node);
    }

    /// Whether some node says so.
    pub(super) fn is_said(&self) -> bool {
        !self.said.lock().is_empty()
    }

    /// Becomes what is said when it was said for long.
    pub(super) fn certain(&self) -> watch::Receiver<Option<String>> {
        self.certain.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use base::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_one_node_says_on_end_is_believed() {
        let twin = Twin::default();
        let no = |kind| io::Error::new(kind, "another process");
        let round = Duration::from_millis(500);
        for turn in 0..40 {
            // Never for long by one node.
            twin.refused(NodeId(1), &no(TWIN));
            assert!(twin.is_said());
            sleep(round).await;
            match turn % 9 {
                7 => twin.refused(NodeId(1), &no(io::ErrorKind::ConnectionRefused)),
                8 => sleep(DOUBT_PAUSE_MAX).await,
                _ => {}
            }
        }
        assert_eq!(*twin.certain().borrow(), None);
        twin.end(NodeId(1));
        assert!(!twin.is_said());
        let begun = now();
        while twin.certain().borrow().is_none() {
            twin.refused(NodeId(2), &no(TWIN));
            sleep(round).await;
        }
        assert!(begun.elapsed() >= DOUBT_TIME && begun.elapsed() < 2 * DOUBT_TIME, "{:?}", begun.elapsed());
    }
}
