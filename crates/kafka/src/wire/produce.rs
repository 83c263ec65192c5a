//! Produce: the request read without copying, the response written field by field.
//!
//! The whole request is read before anything of it is appended, so that a malformed end leaves no half done work.

use bytes::{BufMut, Bytes, BytesMut};
use record::TopicId;

use super::read::{Malformed, Reader};
use super::write::Write;

/// A topic as the request names it: by name before version 13, by id from then on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    /// UTF-8, checked when it was read; a slice of the frame.
    Name(Text),
    Id(TopicId),
}

/// Checked UTF-8 that shares its buffer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(Bytes);

impl Text {
    pub(crate) fn read(reader: &mut Reader<'_>, frame: &Bytes, flexible: bool) -> Result<Self, Malformed> {
        let text = reader.text(flexible)?;
        let end = reader.position();
        Ok(Self(frame.slice(end - text.len()..end)))
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was read")
    }

    /// The same text in a buffer of its own, for what outlives the frame.
    pub(crate) fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl TopicKey {
    pub(crate) fn read(reader: &mut Reader<'_>, frame: &Bytes, by_id: bool, flexible: bool) -> Result<Self, Malformed> {
        if by_id { Ok(Self::Id(TopicId(reader.u128()?))) } else { Text::read(reader, frame, flexible).map(Self::Name) }
    }

    /// Bytes of a name.
    pub(crate) fn name_bytes(&self) -> usize {
        match self {
            Self::Name(name) => name.0.len(),
            Self::Id(_) => 0,
        }
    }

    /// The same key in a buffer of its own, for what outlives the frame.
    pub(crate) fn detached(&self) -> Self {
        match self {
            Self::Name(name) => Self::Name(name.detached()),
            Self::Id(id) => Self::Id(*id),
        }
    }

    pub(crate) fn write(&self, into: &mut BytesMut, flexible: bool) {
        match self {
            Self::Name(name) => into.text(flexible, name.as_str()),
            Self::Id(id) => into.put_u128(id.0),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ProduceRequest {
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) topics: Vec<ProduceTopic>,
    /// Of all topics, in the order of the request.
    pub(crate) partitions: Vec<ProducePartition>,
    /// An upper bound for what is made of it until it is answered, without records.
    pub(crate) cost: usize,
}

/// What a partition takes as it is decoded, waits, and is answered.
pub(crate) const PARTITION_COST: usize = 704;
const TOPIC_COST: usize = 128;

#[derive(Debug)]
pub(crate) struct ProduceTopic {
    pub(crate) key: TopicKey,
    /// How many of the partitions are this topic's.
    pub(crate) partitions: usize,
}

#[derive(Debug)]
pub(crate) struct ProducePartition {
    pub(crate) index: i32,
    pub(crate) records: Option<Bytes>,
}

/// The first version in which topics are named by id.
const FIRST_BY_ID: i16 = 13;

impl ProduceRequest {
    pub(crate) fn decode(
        frame: &Bytes,
        at: usize,
        version: i16,
        flexible: bool,
        cost_max: usize,
    ) -> Result<Self, Malformed> {
        let reader = &mut Reader::starting_at(frame, at);
        // Transactional batches say it themselves; an id without one changes nothing.
        reader.nullable_text(flexible)?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let by_id = version >= FIRST_BY_ID;
        let count = reader.count(flexible, topic_bytes_min(by_id, flexible))?;
        let mut budget = Budget::new(cost_max);
        budget.spend(count, TOPIC_COST)?;
        let mut topics = Vec::with_capacity(count);
        let mut partitions = Vec::new();
        for _ in 0..count {
            let key = TopicKey::read(reader, frame, by_id, flexible)?;
            let count = reader.count(flexible, if flexible { 6 } else { 8 })?;
            budget.spend(count, PARTITION_COST)?;
            partitions.reserve(count);
            for _ in 0..count {
                let index = reader.i32()?;
                let records = reader.nullable_blob(flexible)?;
                if flexible {
                    reader.skip_tags()?;
                }
                partitions.push(ProducePartition { index, records });
            }
            if flexible {
                reader.skip_tags()?;
            }
            topics.push(ProduceTopic { key, partitions: count });
        }
        if flexible {
            reader.skip_tags()?;
        }
        Ok(Self { acks, timeout_ms, topics, partitions, cost: budget.spent })
    }
}

/// What a topic with nothing in it takes on the wire.
pub(crate) const fn topic_bytes_min(by_id: bool, flexible: bool) -> usize {
    match (by_id, flexible) {
        (true, _) => 18,
        (false, true) => 3,
        (false, false) => 6,
    }
}

/// How much more the decoded request may occupy.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) spent: usize,
    limit: usize,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { spent: 0, limit }
    }

    pub(crate) fn spend(&mut self, count: usize, bytes_each: usize) -> Result<(), Malformed> {
        self.spent = self.spent.saturating_add(count.saturating_mul(bytes_each));
        if self.spent > self.limit {
            return Err(Malformed::TooCostly { bytes: self.spent, limit: self.limit });
        }
        Ok(())
    }
}

/// What one partition is told.
#[derive(Debug, Clone)]
pub(crate) struct PartitionAnswer {
    pub(crate) error: i16,
    pub(crate) base_offset: i64,
    pub(crate) log_append_time_ms: i64,
    pub(crate) log_start_offset: i64,
    /// Boxed: only refusals have any.
    pub(crate) detail: Option<Box<AnswerDetail>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerDetail {
    pub(crate) record_errors: Vec<(i32, String)>,
    pub(crate) message: Option<String>,
    /// Leader and its epoch, for a client that asked the wrong node (KIP-951).
    pub(crate) current_leader: Option<(i32, i32)>,
    /// The sequence that was due where another came, and may be on its way from another node. Not told.
    pub(crate) due: Option<i32>,
}

impl PartitionAnswer {
    pub(crate) const fn refused(error: i16) -> Self {
        Self { error, base_offset: -1, log_append_time_ms: -1, log_start_offset: -1, detail: None }
    }
}

/// A node as `NodeEndpoints` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeEndpoint {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) rack: Option<String>,
}

/// Writes the tagged field `NodeEndpoints` (tag 0), the only one of its section.
pub(crate) fn write_node_endpoints(into: &mut BytesMut, endpoints: &[NodeEndpoint]) {
    if endpoints.is_empty() {
        into.no_tags(true);
        return;
    }
    let mut field = BytesMut::new();
    field.count(true, endpoints.len());
    for endpoint in endpoints {
        field.put_i32(endpoint.id);
        field.text(true, &endpoint.host);
        field.put_i32(endpoint.port);
        field.nullable_text(true, endpoint.rack.as_deref());
        field.no_tags(true);
    }
    into.varint(1);
    into.varint(0);
    into.varint(u32::try_from(field.len()).expect("a cluster has few nodes"));
    into.extend_from_slice(&field);
}

/// Writes the body of the response. `answers` are those of all topics, in the order of the request.
pub(crate) fn write_response<'a>(
    into: &mut BytesMut,
    version: i16,
    flexible: bool,
    topics: &[ProduceTopic],
    mut answers: impl Iterator<Item = (i32, &'a PartitionAnswer)>,
    endpoints: &[NodeEndpoint],
) {
    into.count(flexible, topics.len());
    for topic in topics {
        topic.key.write(into, flexible);
        into.count(flexible, topic.partitions);
        for (index, answer) in answers.by_ref().take(topic.partitions) {
            write_partition(into, version, flexible, index, answer);
        }
        into.no_tags(flexible);
    }
    into.put_i32(0);
    if flexible {
        write_node_endpoints(into, if version >= 10 { endpoints } else { &[] });
    }
}

fn write_partition(into: &mut BytesMut, version: i16, flexible: bool, index: i32, answer: &PartitionAnswer) {
    into.put_i32(index);
    into.put_i16(answer.error);
    into.put_i64(answer.base_offset);
    into.put_i64(answer.log_append_time_ms);
    if version >= 5 {
        into.put_i64(answer.log_start_offset);
    }
    if version >= 8 {
        match answer.detail.as_deref() {
            None => {
                into.count(flexible, 0);
                into.nullable_text(flexible, None);
            }
            Some(detail) => {
                into.count(flexible, detail.record_errors.len());
                for (record, message) in &detail.record_errors {
                    into.put_i32(*record);
                    into.nullable_text(flexible, Some(message));
                    into.no_tags(flexible);
                }
                into.nullable_text(flexible, detail.message.as_deref());
            }
        }
    }
    if flexible {
        match answer.detail.as_deref().and_then(|detail| detail.current_leader).filter(|_| version >= 10) {
            None => into.no_tags(true),
            Some(leader) => {
                into.varint(1);
                write_leader_tag(into, 0, leader);
            }
        }
    }
}

/// Writes the tagged field `CurrentLeader`.
pub(crate) fn write_leader_tag(into: &mut BytesMut, tag: u32, (leader, epoch): (i32, i32)) {
    into.varint(tag);
    into.varint(9);
    into.put_i32(leader);
    into.put_i32(epoch);
    into.no_tags(true);
}
