//! Which process stands for each of the other nodes: no two of one node are let in at the same time, as they would be when
//! somebody starts a copy of a data directory while the node runs.
//!
//! A process stands for its node as long as one of its connections is open and not silent, whoever of the two opened it. One
//! that died has none, so that the next one is let in at once; that of a computer without power is silent soon.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::time::{Duration, Instant, now, sleep};
use parking_lot::Mutex;
use record::NodeId;

/// Who was not heard of for so long does not stand in the way of another process. Signs of life come far more often.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long one that comes waits for the other one to go: connections of a process that has just died are about to end, and
/// of one that seems silent something may have come that was not looked at yet.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Processes that were turned away because of another one, of one node, of which that is known.
const TURNED_AWAY_MAX: usize = 8;

/// The processes that stand for other nodes. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lives(Arc<Mutex<BTreeMap<NodeId, Standing>>>);

/// At least one connection is open.
#[derive(Debug)]
struct Standing {
    life: Arc<Life>,
    connections: usize,
    turned_away: BTreeMap<u64, TurnedAway>,
}

/// One process.
#[derive(Debug)]
struct Life {
    number: u64,
    /// Where it is, as its first connection has it.
    place: String,
    heard: Mutex<Instant>,
    /// Another one stands for the node.
    is_over: AtomicBool,
}

#[derive(Debug)]
struct TurnedAway {
    since: Instant,
    told: bool,
}

/// Another process stands for the node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Other {
    /// Where that one is.
    pub(super) place: String,
    /// It does for so long that it can be no process that has died; this is said once.
    pub(super) is_news: bool,
}

/// One connection of the process that stands for a node, until it is dropped.
pub(super) struct Presence {
    node: NodeId,
    life: Arc<Life>,
    lives: Lives,
}

impl Lives {
    /// A process connects as a node, or is found where the node is called. Waits a moment if another one seems to be there.
    pub(super) async fn enter(&self, node: NodeId, life: u64, place: &str) -> Result<Presence, Other> {
        let wait_until = now() + WAIT_MAX;
        loop {
            let has_waited = now() >= wait_until;
            match self.try_enter(node, life, place, has_waited) {
                Err(_) if !has_waited => sleep(LOOK_PAUSE).await,
                entered => return entered,
            }
        }
    }

    fn try_enter(&self, node: NodeId, life: u64, place: &str, has_waited: bool) -> Result<Presence, Other> {
        let mut standing = self.0.lock();
        if let Some(standing) = standing.get_mut(&node) {
            if standing.life.number == life {
                standing.connections += 1;
                *standing.life.heard.lock() = now();
                return Ok(Presence { node, life: Arc::clone(&standing.life), lives: self.clone() });
            }
            if !has_waited || standing.life.heard.lock().elapsed() < SILENCE_MAX {
                let is_news = has_waited && standing.turns_away(life);
                return Err(Other { place: standing.life.place.clone(), is_news });
            }
            // What comes of it yet is not taken any more.
            standing.life.is_over.store(true, Ordering::Release);
        }
        let number = life;
        let life = Life { number, place: place.to_owned(), heard: Mutex::new(now()), is_over: AtomicBool::new(false) };
        let life = Arc::new(life);
        let begun = Standing { life: Arc::clone(&life), connections: 1, turned_away: BTreeMap::new() };
        standing.insert(node, begun);
        Ok(Presence { node, life, lives: self.clone() })
    }
}

impl Standing {
    /// Another process came. Whether it did for so long that both live, and that was not told.
    fn turns_away(&mut self, life: u64) -> bool {
        if !self.turned_away.contains_key(&life) && self.turned_away.len() >= TURNED_AWAY_MAX {
            self.turned_away.clear();
        }
        let away = self.turned_away.entry(life).or_insert_with(|| TurnedAway { since: now(), told: false });
        let is_news = !away.told && away.since.elapsed() > SILENCE_MAX;
        away.told |= is_news;
        is_news
    }
}

impl Presence {
    /// Something came over the connection.
    pub(super) fn hear(&self) {
        *self.life.heard.lock() = now();
    }

    /// Another process stands for the node: nothing is taken of this one.
    pub(super) fn is_over(&self) -> bool {
        self.life.is_over.load(Ordering::Acquire)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut standing = self.lives.0.lock();
        let Some(of_node) = standing.get_mut(&self.node).filter(|standing| Arc::ptr_eq(&standing.life, &self.life))
        else {
            return;
        };
        of_node.connections -= 1;
        if of_node.connections == 0 {
            standing.remove(&self.node);
        }
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("node", &self.node).field("life", &self.life).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(3);

    #[tokio::test(start_paused = true)]
    async fn another_process_is_let_in_when_the_connections_of_the_first_have_ended() {
        let lives = Lives::default();
        let control = lives.enter(NODE, 1, "here").await.unwrap();
        let bulk = lives.enter(NODE, 1, "here").await.unwrap();
        let _another_node = lives.enter(NodeId(4), 2, "there").await.unwrap();
        let turned_away = lives.enter(NODE, 2, "there").await.unwrap_err();
        assert_eq!(turned_away, Other { place: "here".to_owned(), is_news: false });
        drop(control);
        lives.enter(NODE, 2, "there").await.unwrap_err();
        let (begun, other) = (now(), lives.clone());
        let waiting = base::task::spawn("another", async move { other.enter(NODE, 2, "there").await.unwrap() });
        sleep(Duration::from_millis(100)).await;
        drop(bulk);
        let _second = waiting.await.unwrap();
        assert!(begun.elapsed() < WAIT_MAX, "it dies while another one begins");
        lives.enter(NODE, 1, "here").await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_followed_by_another_and_not_taken_any_more() {
        let lives = Lives::default();
        let first = lives.enter(NODE, 1, "here").await.unwrap();
        sleep(SILENCE_MAX).await;
        let (seen, hears) = (lives.clone(), sleep(Duration::from_millis(50)));
        let ((), turned_away) = tokio::join!(
            async {
                hears.await;
                first.hear();
            },
            seen.enter(NODE, 2, "there")
        );
        assert!(turned_away.is_err(), "it was there, and only looked at too late");
        sleep(SILENCE_MAX).await;
        let _second = lives.enter(NODE, 2, "there").await.unwrap();
        assert!(first.is_over());
        first.hear();
        lives.enter(NODE, 1, "here").await.unwrap_err();
        drop(first);
        assert_eq!(lives.0.lock()[&NODE].connections, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_once_when_it_is_certain() {
        let lives = Lives::default();
        let first = lives.enter(NODE, 1, "here").await.unwrap();
        let (begun, mut told) = (now(), Vec::new());
        while begun.elapsed() < Duration::from_secs(10) {
            first.hear();
            if lives.enter(NODE, 2, "there").await.unwrap_err().is_news {
                told.push(begun.elapsed());
            }
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0] > SILENCE_MAX, "{told:?}");
    }
}
