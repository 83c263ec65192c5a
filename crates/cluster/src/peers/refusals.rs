//! Nodes that answer and do not let this one in, or are not those that were called: after a while nothing is
//! gained by calling them twenty times a second, and nothing by saying so each time.
//!
//! Who does not answer at all is called as before: a node that restarts is reached at once.

use std::collections::BTreeMap;
use std::io;

use base::time::{Duration, Instant, now};
use parking_lot::Mutex;
use record::NodeId;

use super::greeting::TWIN;

/// How long a node that has refused once is left alone; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest where another process is taken for this node's: it may be gone at any moment.
const TWIN_PAUSE_MAX: Duration = Duration::from_millis(250);

/// What a node said last.
#[derive(Debug)]
struct Refused {
    kind: io::ErrorKind,
    text: String,
    /// How long it is left alone after its next refusal.
    pause: Duration,
    /// It is left alone until then.
    until: Option<Instant>,
}

/// The nodes that refuse this one: at most those that have an address.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<NodeId, Refused>>);

impl Refusals {
    /// Why a node is not called now, if it is left alone.
    pub(super) fn held_back(&self, node: NodeId) -> Option<io::Error> {
        let refusals = self.0.lock();
        let refused = refusals.get(&node).filter(|refused| refused.until.is_some_and(|until| now() < until))?;
        Some(io::Error::new(refused.kind, refused.text.clone()))
    }

    /// The node has answered with a refusal. Whether it said something else before, or nothing.
    pub(super) fn refused(&self, node: NodeId, error: &io::Error) -> bool {
        let (kind, text) = (error.kind(), error.to_string());
        let mut refusals = self.0.lock();
        let before = refusals.get(&node);
        let is_new = before.is_none_or(|before| before.text != text);
        let pause_max = if kind == TWIN { TWIN_PAUSE_MAX } else { PAUSE_MAX };
        let pause = before.map_or(PAUSE_MIN, |before| before.pause).min(pause_max);
        let refused = Refused { kind, text, pause: (2 * pause).min(pause_max), until: Some(now() + pause) };
        refusals.insert(node, refused);
        is_new
    }

    /// The node may be another one than before, or think otherwise: it is called as if nothing had been.
    pub(super) fn call_again(&self, node: NodeId) {
        if let Some(refused) = self.0.lock().get_mut(&node) {
            (refused.pause, refused.until) = (PAUSE_MIN, None);
        }
    }

    /// The node lets this one in, or is called no more. Whether it had refused.
    pub(super) fn end(&self, node: NodeId) -> bool {
        self.0.lock().remove(&node).is_some()
    }
}

#[cfg(test)]
mod tests {
    use base::time::sleep;

    use super::*;

    const NODE: NodeId = NodeId(4);

    fn error(text: &str) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionRefused, text.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn who_refuses_is_called_ever_less_often_and_told_of_once() {
        let refusals = Refusals::default();
        assert!(refusals.held_back(NODE).is_none());
        let (begun, mut calls) = (now(), 0);
        while begun.elapsed() < Duration::from_secs(60) {
            if refusals.held_back(NODE).is_none() {
                assert_eq!(refusals.refused(NODE, &error("here is node 5")), calls == 0);
                calls += 1;
                assert_eq!(refusals.held_back(NODE).unwrap().to_string(), "here is node 5");
            }
            sleep(Duration::from_millis(10)).await;
        }
        // Seven until the pause has its length, and one every five seconds then.
        assert!((15..=20).contains(&calls), "{calls}");
        assert!(refusals.refused(NODE, &error("here is node 6")), "it says something else");
        assert!(refusals.end(NODE));
        assert!(!refusals.end(NODE));
        assert!(refusals.held_back(NODE).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_think_otherwise_is_called_at_once() {
        let refusals = Refusals::default();
        for _ in 0..10 {
            refusals.refused(NODE, &error("no"));
        }
        refusals.call_again(NODE);
        assert!(refusals.held_back(NODE).is_none());
        assert!(!refusals.refused(NODE, &error("no")), "that was told");
        sleep(PAUSE_MIN).await;
        assert!(refusals.held_back(NODE).is_none(), "it begins anew with the shortest pause");
    }
}
