//! All sessions of a listener's node, and who must go when there are too many.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use base::random::Random;
use base::time::{Duration, Instant, now};
use parking_lot::{Mutex, MutexGuard};

use super::Session;

/// A session that was not used for so long may be thrown out by a new one; one that was made so long ago, by a larger
/// new one.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// The sessions of this node.
#[derive(Debug)]
pub struct Sessions {
    sessions_max: usize,
    partitions_max: usize,
    started: Instant,
    random: Arc<dyn Random>,
    slots: Mutex<BTreeMap<i32, SessionHandle>>,
    /// In all sessions.
    partitions: AtomicUsize,
}

/// A session that a connection may keep at hand between requests.
pub(crate) type SessionHandle = Arc<Slot>;

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: i32,
    created_ms: u64,
    used_ms: AtomicU64,
    partitions: AtomicUsize,
    closed: AtomicBool,
    session: Mutex<Session>,
}

impl Slot {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock()
    }
}

impl Sessions {
    #[must_use]
    pub fn new(sessions_max: usize, partitions_max: usize, random: Arc<dyn Random>) -> Self {
        Self {
            sessions_max,
            partitions_max,
            started: now(),
            random,
            slots: Mutex::new(BTreeMap::new()),
            partitions: AtomicUsize::new(0),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(now().duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slots.lock().len()
    }

    /// The session of that id, from `at_hand` if it is that one, marked as used now.
    pub(crate) fn find(&self, id: i32, at_hand: Option<&SessionHandle>) -> Option<SessionHandle> {
        let slot = match at_hand {
            Some(slot) if slot.id == id => (!slot.is_closed()).then(|| Arc::clone(slot)),
            _ => self.slots.lock().get(&id).cloned(),
        }?;
        slot.used_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        Some(slot)
    }

    /// Makes a session, or not, when there is no place for one of its size.
    pub(crate) fn create(&self, session: Session) -> Option<SessionHandle> {
        let size = session.len();
        let now_ms = self.elapsed_ms();
        let mut slots = self.slots.lock();
        if slots.len() >= self.sessions_max {
            let evicted = evictable(&slots, now_ms, size)?;
            self.close_slot(&mut slots, evicted);
        }
        if !self.reserve(size) {
            return None;
        }
        let id = loop {
            let id = i32::from_be_bytes(self.random.next_u64().to_be_bytes()[..4].try_into().ok()?) & i32::MAX;
            if id != 0 && !slots.contains_key(&id) {
                break id;
            }
        };
        let slot = Arc::new(Slot {
            id,
            created_ms: now_ms,
            used_ms: AtomicU64::new(now_ms),
            partitions: AtomicUsize::new(size),
            closed: AtomicBool::new(false),
            session: Mutex::new(session),
        });
        slots.insert(id, Arc::clone(&slot));
        Some(slot)
    }

    /// Accounts for partitions that came to or went from a session; false (and the session is closed) when there is
    /// no room for them.
    pub(crate) fn resize(&self, slot: &SessionHandle, size: usize) -> bool {
        // With the lock, so that whoever closes it meanwhile gives back what is counted, neither more nor less.
        let mut slots = self.slots.lock();
        if slot.is_closed() {
            return true;
        }
        let before = slot.partitions.load(Ordering::Relaxed);
        if size > before && !self.reserve(size - before) {
            self.close_slot(&mut slots, slot.id);
            return false;
        }
        if size < before {
            self.partitions.fetch_sub(before - size, Ordering::Relaxed);
        }
        slot.partitions.store(size, Ordering::Relaxed);
        true
    }

    pub(crate) fn close(&self, id: i32) {
        let mut slots = self.slots.lock();
        self.close_slot(&mut slots, id);
    }

    fn close_slot(&self, slots: &mut BTreeMap<i32, SessionHandle>, id: i32) {
        if let Some(slot) = slots.remove(&id) {
            slot.closed.store(true, Ordering::Release);
            self.partitions.fetch_sub(slot.partitions.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn reserve(&self, partitions: usize) -> bool {
        self.partitions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(partitions).filter(|total| *total <= self.partitions_max)
            })
            .is_ok()
    }
}

/// Who makes room for a session of `size`: whoever was not used for long, else a smaller one that is old.
fn evictable(slots: &BTreeMap<i32, SessionHandle>, now_ms: u64, size: usize) -> Option<i32> {
    let limit_ms = u64::try_from(EVICTABLE_AFTER.as_millis()).unwrap_or(u64::MAX);
    let used = |slot: &SessionHandle| slot.used_ms.load(Ordering::Relaxed);
    let oldest = slots.values().min_by_key(|slot| (used(slot), slot.id))?;
    if now_ms.saturating_sub(used(oldest)) > limit_ms {
        return Some(oldest.id);
    }
    slots
        .values()
        .filter(|slot| now_ms.saturating_sub(slot.created_ms) > limit_ms)
        .map(|slot| (slot.partitions.load(Ordering::Relaxed), used(slot), slot.id))
        .filter(|(partitions, ..)| *partitions < size)
        .min()
        .map(|(.., id)| id)
}
