//! Which shards new partitions go to: those with the fewest first, one after the other, so that shards have about as many
//! streams each and the partitions of a topic are on as many shards as there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use record::ShardId;

/// Partitions whose shards are chosen and that are not made yet: whoever chooses meanwhile counts them.
#[derive(Debug, Default)]
pub(crate) struct NewPartitions {
    chosen: Mutex<Chosen>,
}

#[derive(Debug, Default)]
struct Chosen {
    counts: BTreeMap<ShardId, u64>,
    /// Of shards with equally many another one is first each time.
    turn: usize,
}

/// Gives a shard for each partition. What it gave counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Spread {
    of: Arc<NewPartitions>,
    /// In their order, with how often each was given.
    shards: Vec<(ShardId, u64)>,
    next: usize,
}

impl NewPartitions {
    /// Over `shards`, each with its number of streams; at least one.
    pub(crate) fn spread(new: &Arc<Self>, shards: Vec<(ShardId, u64)>) -> Spread {
        assert!(!shards.is_empty(), "a cluster has at least one data shard");
        let count = shards.len();
        let mut ordered: Vec<(u64, usize, ShardId)> = {
            let mut chosen = new.chosen.lock();
            let turn = chosen.turn;
            chosen.turn = turn.wrapping_add(1);
            let load = |shard, streams| streams + chosen.counts.get(&shard).copied().unwrap_or(0);
            let key = |(place, (shard, streams)): (usize, (ShardId, u64))| {
                (load(shard, streams), (place + count - turn % count) % count, shard)
            };
            shards.into_iter().enumerate().map(key).collect()
        };
        ordered.sort_unstable();
        let shards = ordered.into_iter().map(|(_, _, shard)| (shard, 0)).collect();
        Spread { of: Arc::clone(new), shards, next: 0 }
    }
}

impl Spread {
    pub(crate) fn next(&mut self) -> ShardId {
        let place = self.next % self.shards.len();
        self.next += 1;
        let (shard, given) = &mut self.shards[place];
        *given += 1;
        *self.of.chosen.lock().counts.entry(*shard).or_default() += 1;
        *shard
    }
}

impl Drop for Spread {
    fn drop(&mut self) {
        let mut chosen = self.of.chosen.lock();
        for (shard, given) in &self.shards {
            if let Some(count) = chosen.counts.get_mut(shard) {
                *count -= given;
                if *count == 0 {
                    chosen.counts.remove(shard);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Topics, each with so many partitions, one after the other.
    fn make(topics: &[usize], streams: &mut BTreeMap<ShardId, u64>) {
        let new = Arc::new(NewPartitions::default());
        for partitions in topics {
            let mut spread = NewPartitions::spread(&new, streams.iter().map(|(id, count)| (*id, *count)).collect());
            for _ in 0..*partitions {
                *streams.get_mut(&spread.next()).expect("one of them") += 1;
            }
        }
        assert!(new.chosen.lock().counts.is_empty());
    }

    #[test]
    fn whatever_is_made_shards_differ_by_one_at_most() {
        let mut streams: BTreeMap<ShardId, u64> = (1..=4).map(|id| (ShardId(id), 0)).collect();
        for topics in [&[1, 1, 1][..], &[3, 2, 1, 1], &[12, 5, 1, 1, 1, 7], &[1; 50]] {
            make(topics, &mut streams);
            let (most, least) = (streams.values().max(), streams.values().min());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{streams:?}");
        }
    }

    #[test]
    fn a_topic_is_on_all_shards_however_empty_one_is() {
        let mut streams: BTreeMap<ShardId, u64> = [(ShardId(1), 90), (ShardId(2), 90), (ShardId(3), 0)].into();
        make(&[6], &mut streams);
        assert_eq!(streams.into_values().collect::<Vec<_>>(), [92, 92, 2]);
    }

    #[test]
    fn those_that_choose_at_once_do_not_choose_the_same() {
        let new = Arc::new(NewPartitions::default());
        let shards = || vec![(ShardId(1), 5), (ShardId(2), 5), (ShardId(3), 5)];
        let mut at_once: Vec<Spread> = (0..6).map(|_| NewPartitions::spread(&new, shards())).collect();
        let mut given: Vec<ShardId> = at_once.iter_mut().map(Spread::next).collect();
        given.sort_unstable();
        assert_eq!(given, [1, 1, 2, 2, 3, 3].map(ShardId), "by turns, although none had been given one");
    }
}
