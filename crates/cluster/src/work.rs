//! Which topics are being worked on by this node: making and removing one never overlap here, so that no step of the one
//! that this node takes comes behind the last step of the other that it takes. Of other nodes it knows nothing: what they do
//! late is refused by the state of the topic, or collected (`orphans`).

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use record::TopicId;
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Inner {
    topics: Mutex<BTreeSet<TopicId>>,
    ended: Notify,
}

/// The topics under work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work(Arc<Inner>);

/// Work on some topics, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    topics: Vec<TopicId>,
    work: Arc<Inner>,
}

impl Work {
    /// Waits until nobody works on any of `topics`, and claims them all at once.
    pub(crate) async fn claim(&self, mut topics: Vec<TopicId>) -> Claim {
        topics.sort_unstable();
        topics.dedup();
        loop {
            let ended = self.0.ended.notified();
            let mut ended = std::pin::pin!(ended);
            ended.as_mut().enable();
            if self.try_claim(&topics) {
                return Claim { topics, work: Arc::clone(&self.0) };
            }
            ended.await;
        }
    }

    fn try_claim(&self, topics: &[TopicId]) -> bool {
        let mut claimed = self.0.topics.lock();
        if topics.iter().any(|topic| claimed.contains(topic)) {
            return false;
        }
        claimed.extend(topics);
        true
    }

    /// Whether somebody works on the topic.
    pub(crate) fn is_claimed(&self, topic: TopicId) -> bool {
        self.0.topics.lock().contains(&topic)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.work.topics.lock();
        for topic in &self.topics {
            let was = claimed.remove(topic);
            assert!(was, "a claim is held until it is dropped");
        }
        drop(claimed);
        self.work.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ONE: TopicId = TopicId(1);
    const TWO: TopicId = TopicId(2);

    #[test]
    fn a_claim_waits_for_the_one_before() {
        let work = Work::default();
        let first = work.claim(vec![ONE, TWO, ONE]).now_or_never().expect("nobody works on them");
        assert!(work.is_claimed(TWO));
        assert!(work.claim(vec![TWO]).now_or_never().is_none());
        drop(first);
        let second = work.claim(vec![TWO]).now_or_never().expect("the first has ended");
        assert!(!work.is_claimed(ONE));
        drop(second);
        assert!(!work.is_claimed(TWO));
    }
}
