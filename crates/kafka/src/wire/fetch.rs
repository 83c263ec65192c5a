//! Fetch: the request, read without strings.

use bytes::Bytes;

use super::produce::{Budget, TopicKey, topic_bytes_min};
use super::read::{Malformed, Reader};

#[derive(Debug)]
pub(crate) struct FetchRequest {
    /// -1 for a consumer; whoever says otherwise claims to be a replica.
    pub(crate) replica_id: i32,
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) isolation: i8,
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    pub(crate) topics: Vec<FetchTopic>,
    /// Of all topics, in the order of the request.
    pub(crate) partitions: Vec<FetchPartition>,
    pub(crate) forgotten: Vec<ForgottenTopic>,
    /// An upper bound for what is made of it until it is answered, without records.
    pub(crate) cost: usize,
}

/// What a partition takes as it is decoded, read, remembered and answered.
const PARTITION_COST: usize = 512;
const TOPIC_COST: usize = 128;

#[derive(Debug)]
pub(crate) struct FetchTopic {
    pub(crate) key: TopicKey,
    pub(crate) partitions: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchPartition {
    pub(crate) index: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) max_bytes: i32,
}

#[derive(Debug)]
pub(crate) struct ForgottenTopic {
    pub(crate) key: TopicKey,
    pub(crate) partitions: Vec<i32>,
}

/// The first version in which topics are named by id.
pub(crate) const FIRST_BY_ID: i16 = 13;

impl FetchRequest {
    pub(crate) fn decode(
        frame: &Bytes,
        at: usize,
        version: i16,
        flexible: bool,
        cost_max: usize,
    ) -> Result<Self, Malformed> {
        let reader = &mut Reader::starting_at(frame, at);
        let by_id = version >= FIRST_BY_ID;
        let mut request = Self {
            replica_id: if version <= 14 { reader.i32()? } else { -1 },
            max_wait_ms: reader.i32()?,
            min_bytes: reader.i32()?,
            max_bytes: reader.i32()?,
            isolation: reader.i8()?,
            session_id: if version >= 7 { reader.i32()? } else { 0 },
            session_epoch: if version >= 7 { reader.i32()? } else { -1 },
            topics: Vec::new(),
            partitions: Vec::new(),
            forgotten: Vec::new(),
            cost: 0,
        };
        let mut budget = Budget::new(cost_max);
        request.read_topics(reader, frame, version, flexible, &mut budget)?;
        if version >= 7 {
            let count = reader.count(flexible, topic_bytes_min(by_id, flexible))?;
            budget.spend(count, TOPIC_COST)?;
            request.forgotten.reserve(count);
            for _ in 0..count {
                let key = TopicKey::read(reader, frame, by_id, flexible)?;
                budget.spend(1, key.name_bytes())?;
                let count = reader.count(flexible, 4)?;
                budget.spend(count, 4)?;
                let partitions = (0..count).map(|_| reader.i32()).collect::<Result<_, _>>()?;
                if flexible {
                    reader.skip_tags()?;
                }
                request.forgotten.push(ForgottenTopic { key, partitions });
            }
        }
        request.cost = budget.spent;
        if version >= 11 {
            reader.skip_text(flexible)?; // the reader's rack: every replica is as near as any other
        }
        if flexible {
            let replica_id = &mut request.replica_id;
            reader.tags(|tag, reader| match tag {
                // The cluster's id, which only controllers check.
                0 => reader.skip_text(true).map(|()| true),
                1 if version >= 15 => {
                    *replica_id = reader.i32()?;
                    reader.i64()?;
                    reader.skip_tags()?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
        }
        Ok(request)
    }

    /// Lets go of the frame that it was read from.
    pub(crate) fn detach(&mut self) {
        let topics = self.topics.iter_mut().map(|topic| &mut topic.key);
        for key in topics.chain(self.forgotten.iter_mut().map(|topic| &mut topic.key)) {
            *key = key.detached();
        }
    }

    fn read_topics(
        &mut self,
        reader: &mut Reader<'_>,
        frame: &Bytes,
        version: i16,
        flexible: bool,
        budget: &mut Budget,
    ) -> Result<(), Malformed> {
        let by_id = version >= FIRST_BY_ID;
        let count = reader.count(flexible, topic_bytes_min(by_id, flexible))?;
        budget.spend(count, TOPIC_COST)?;
        self.topics.reserve(count);
        for _ in 0..count {
            let key = TopicKey::read(reader, frame, by_id, flexible)?;
            budget.spend(1, key.name_bytes())?;
            let count = reader.count(flexible, 16)?;
            budget.spend(count, PARTITION_COST)?;
            self.partitions.reserve(count);
            for _ in 0..count {
                let index = reader.i32()?;
                let current_leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
                let fetch_offset = reader.i64()?;
                let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
                if version >= 5 {
                    reader.i64()?; // a follower's log start offset
                }
                let max_bytes = reader.i32()?;
                if flexible {
                    // A follower's directory and high watermark among them.
                    reader.skip_tags()?;
                }
                self.partitions.push(FetchPartition {
                    index,
                    current_leader_epoch,
                    fetch_offset,
                    last_fetched_epoch,
                    max_bytes,
                });
            }
            if flexible {
                reader.skip_tags()?;
            }
            self.topics.push(FetchTopic { key, partitions: count });
        }
        Ok(())
    }
}
