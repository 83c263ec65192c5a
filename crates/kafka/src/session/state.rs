//! One session: the partitions of one reader, what it was told of each, and whose turn it is.

use std::collections::BTreeMap;

use broker::topics::PartitionRef;

use super::next_epoch;
use crate::wire::fetch::FetchPartition;
use crate::wire::fetch_response::PartitionHead;
use crate::wire::produce::TopicKey;

#[derive(Debug)]
pub(crate) struct Session {
    /// The epoch that the next request must have.
    epoch: i32,
    /// Whether topics are named by id. A request of the other kind is refused.
    by_id: bool,
    /// A partition's place in the order in which it is read. Who was given data goes to the end.
    turns: BTreeMap<(TopicKey, i32), u64>,
    order: BTreeMap<u64, Cached>,
    next_turn: u64,
}

/// One partition of a session.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) key: TopicKey,
    pub(crate) wish: FetchPartition,
    /// The partition as it was found; looked for again after an error.
    pub(crate) found: Option<PartitionRef>,
    sent: Sent,
}

/// What the reader was told last; -1 before the first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    high_watermark: i64,
    log_start_offset: i64,
}

impl Sent {
    const NOTHING: Self = Self { high_watermark: -1, log_start_offset: -1 };
}

/// Whether an answer has to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// Something is new, but no data.
    Told,
    /// Data: the partition goes to the end of the order.
    Data,
}

impl Session {
    pub(crate) fn new(by_id: bool) -> Self {
        Self { epoch: 1, by_id, turns: BTreeMap::new(), order: BTreeMap::new(), next_turn: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) const fn by_id(&self) -> bool {
        self.by_id
    }

    pub(crate) const fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(crate) const fn advance(&mut self) {
        self.epoch = next_epoch(self.epoch);
    }

    /// Adds a partition, or changes what is wished of it; its place in the order stays.
    pub(crate) fn set(&mut self, key: &TopicKey, wish: FetchPartition) {
        if let Some(turn) = self.turns.get(&(key.clone(), wish.index)) {
            self.order.get_mut(turn).expect("every turn has a partition").wish = wish;
            return;
        }
        let turn = self.take_turn();
        self.turns.insert((key.clone(), wish.index), turn);
        self.order.insert(turn, Cached { key: key.clone(), wish, found: None, sent: Sent::NOTHING });
    }

    /// Adds a partition that was answered already.
    pub(crate) fn set_answered(
        &mut self,
        key: &TopicKey,
        wish: FetchPartition,
        found: Option<PartitionRef>,
        told: &PartitionHead,
    ) {
        self.set(key, wish);
        let turn = self.turns[&(key.clone(), wish.index)];
        let cached = self.order.get_mut(&turn).expect("every turn has a partition");
        cached.found = found;
        cached.told(told, false);
    }

    pub(crate) fn forget(&mut self, key: &TopicKey, index: i32) {
        if let Some(turn) = self.turns.remove(&(key.clone(), index)) {
            self.order.remove(&turn);
        }
    }

    /// The partitions in the order of their turns.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Cached)> {
        self.order.iter_mut().map(|(turn, cached)| (*turn, cached))
    }

    /// Notes what the partition at `turn` is to be told; [`Change::Told`] where that partition is gone meanwhile.
    pub(crate) fn answer(&mut self, turn: u64, told: &PartitionHead, has_data: bool) -> Change {
        let Some(cached) = self.order.get_mut(&turn) else {
            return Change::Told;
        };
        let change = cached.told(told, has_data);
        if told.error != 0 {
            cached.found = None;
        }
        if change == Change::Data {
            let cached = self.order.remove(&turn).expect("found above");
            let next = self.take_turn();
            *self.turns.get_mut(&(cached.key.clone(), cached.wish.index)).expect("every partition has a turn") = next;
            self.order.insert(next, cached);
        }
        change
    }

    const fn take_turn(&mut self) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        turn
    }
}

impl Cached {
    fn told(&mut self, head: &PartitionHead, has_data: bool) -> Change {
        let now = Sent { high_watermark: head.high_watermark, log_start_offset: head.log_start_offset };
        if head.error != 0 {
            // Whatever comes after an error is news.
            self.sent = Sent { high_watermark: -1, ..now };
            return Change::Told;
        }
        let news = now != self.sent || head.diverging_epoch.is_some();
        self.sent = now;
        match (has_data, news) {
            (true, _) => Change::Data,
            (false, true) => Change::Told,
            (false, false) => Change::None,
        }
    }
}
