//! Commands of every kind, sensible and not, over so few names that they meet.

mod slots;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use record::{
    BatchSummary, Compression, FileNumber, LeaderEpoch, LogIndex, NodeId, ObjectKey, Partition, ProducerEpoch,
    ProducerId, ProducerStamp, Sequence, ShardId, StreamId, StreamOffset, TimestampMs, TimestampType, TopicId,
};

use super::harness::{put_compacted, put_object};
use crate::commands::{
    AbandonParts, AbandonTopics, AddPartitions, AdmitNode, AllocateProducerIds, AlterConfigs, AnnounceNode, Append,
    AssignSlots, CancelAt, CancelMove, CloseStream, CommitCheck, CommitOffsets, CompleteDeletion, CompleteMove,
    CompletePartitions, CompleteShards, CompleteTopics, ConfigAlteration, Configure, CreateCluster, CreateStreams,
    CreateTopics, DeleteGroup, DeleteOffsets, DeleteRecords, DeleteStreams, DeleteTopics, ExpireProducers,
    LeaderChange, MoveStreams, NewMove, NewShard, NewStream, NewTopic, OpenShards, OpenStream, PutCompacted, PutGroup,
    PutObject, PutShards, RaiseFeatures, ReceiveStream, RegisterNode, Seal, SetCopies, SetLogStart, SetRebalancing,
    SetStanding, SkipIds, SlotRange, StagePart, StreamFront, Tick, UploadId,
};
use crate::producers::ProducerBatch;
use crate::{
    Command, CommittedOffset, ConfigResource, GroupRecord, GroupState, GroupVersion, Member, MoveId, MovedProducer,
    NodeAddress, NodeRecord, OffsetKey, Settings, ShardRecord, Standing,
};

fn stream() -> impl Strategy<Value = StreamId> {
    (1_u64..6).prop_map(StreamId)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("ü".to_owned())]
}

fn topic() -> impl Strategy<Value = TopicId> {
    (0_u128..4).prop_map(TopicId)
}

fn upload() -> impl Strategy<Value = UploadId> {
    (0_u64..3).prop_map(UploadId)
}

fn new_stream() -> impl Strategy<Value = NewStream> {
    let offset = prop_oneof![8 => Just(0), 1 => 0_i64..100, 1 => any::<i64>()];
    let epoch = prop_oneof![8 => 0_i32..4, 1 => any::<i32>()];
    (stream(), epoch, offset).prop_map(|(id, epoch, offset)| NewStream {
        id,
        epoch_start: LeaderEpoch(epoch),
        first_offset: StreamOffset(offset),
    })
}

fn stamp() -> impl Strategy<Value = ProducerStamp> {
    let sequence = prop_oneof![8 => 0_i32..12, 1 => (i32::MAX - 4)..=i32::MAX, 1 => any::<i32>()];
    let epoch = prop_oneof![12 => 0_i16..3, 1 => any::<i16>()];
    ((-1_i64..4), epoch, sequence).prop_map(|(id, epoch, sequence)| ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
    })
}

fn summary() -> impl Strategy<Value = BatchSummary> {
    let records = prop_oneof![20 => 1_u32..5, 1 => Just(0), 1 => any::<u32>()];
    let rarely = || prop::bool::weighted(0.03);
    (records, option::of(stamp()), 0_i64..100, rarely(), rarely(), any::<bool>(), 0_usize..5).prop_map(
        |(record_count, producer, time, transactional, control, append_time, compression)| BatchSummary {
            bytes: 80,
            record_count,
            compression: Compression::ALL[compression],
            timestamp_type: if append_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
            base_timestamp: TimestampMs(time),
            max_timestamp: TimestampMs(time + 3),
            max_timestamp_correction: None,
            producer,
            transactional,
            control,
        },
    )
}

fn append() -> impl Strategy<Value = Append> {
    let targets = vec(stream(), 0..3);
    (targets, summary(), prop::bool::weighted(0.2), upload(), 0_u32..4).prop_map(
        |(targets, mut batch, parts, upload, more)| {
            let mut append = Append::new(targets.into_iter().collect(), batch);
            if parts {
                append.upload = Some(upload);
                batch.bytes = 80 + 10 * more;
                append.batch = batch;
            }
            append
        },
    )
}

fn member() -> impl Strategy<Value = Member> {
    (name(), option::of(name()), vec((name(), Just(Bytes::from_static(b"\x01\x02"))), 0..2)).prop_map(
        |(id, instance_id, protocols)| Member {
            id,
            instance_id,
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            session_timeout_ms: 10,
            rebalance_timeout_ms: 20,
            protocols,
            assignment: Bytes::from_static(b"\xff"),
        },
    )
}

fn group() -> impl Strategy<Value = GroupRecord> {
    let state = prop_oneof![
        Just(GroupState::Empty),
        Just(GroupState::PreparingRebalance),
        Just(GroupState::CompletingRebalance),
        Just(GroupState::Stable),
    ];
    (name(), 0_i32..3, state, vec(member(), 0..3), option::of(name())).prop_map(
        |(group_id, generation, state, members, leader)| GroupRecord {
            group_id,
            protocol_type: "consumer".to_owned(),
            protocol: None,
            generation,
            state,
            leader,
            members,
        },
    )
}

fn offset() -> impl Strategy<Value = CommittedOffset> {
    (topic(), 0_i32..3, any::<i64>(), name()).prop_map(|(topic, partition, offset, metadata)| CommittedOffset {
        topic,
        partition: Partition(partition),
        offset: StreamOffset(offset),
        leader_epoch: LeaderEpoch(-1),
        metadata,
        commit_time: TimestampMs(7),
    })
}

fn commit() -> impl Strategy<Value = CommitOffsets> {
    let check = (name(), option::of(name()), -1_i32..3).prop_map(|(member_id, instance_id, generation)| CommitCheck {
        member_id,
        instance_id,
        generation,
    });
    (name(), option::of(check), vec(offset(), 0..4)).prop_map(|(group_id, check, offsets)| CommitOffsets {
        group_id,
        check,
        offsets,
    })
}

fn new_topic() -> impl Strategy<Value = NewTopic> {
    (topic(), name(), vec((0_u32..3).prop_map(ShardId), 0..3)).prop_map(|(id, name, partitions)| NewTopic {
        id,
        name,
        partitions,
        configs: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    })
}

fn alteration() -> impl Strategy<Value = ConfigAlteration> {
    let resource = prop_oneof![
        topic().prop_map(ConfigResource::Topic),
        option::of((0_u64..2).prop_map(NodeId)).prop_map(ConfigResource::Broker),
        name().prop_map(ConfigResource::Group),
    ];
    (resource, option::of(0_u64..3), vec((name(), name()), 0..2), vec(name(), 0..2)).prop_map(
        |(resource, expected_version, set, remove)| ConfigAlteration { resource, expected_version, set, remove },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    (0_u32..6, 0_i64..3000, 0_i64..2000, 3_u32..7, 5_u32..200, 0_u32..4).prop_map(
        |(producers_max, producer_expiry_ms, producer_idle_ms_min, streams_max, unsealed_batches_max, uploads_max)| {
            Settings {
                producers_max,
                producer_expiry_ms,
                producer_idle_ms_min,
                streams_max,
                unsealed_batches_max,
                uploads_max,
            }
        },
    )
}

fn move_id() -> impl Strategy<Value = MoveId> {
    (1_u64..12).prop_map(MoveId)
}

fn moved_producer() -> impl Strategy<Value = MovedProducer> {
    let batch = (0_i32..12, 0_i32..12, 0_i64..50).prop_map(|(first, last, offset)| ProducerBatch {
        first_sequence: Sequence(first),
        last_sequence: Sequence(last),
        base_offset: StreamOffset(offset),
        timestamp: TimestampMs(7),
    });
    (-1_i64..4, -1_i16..3, vec(batch, 0..7)).prop_map(|(id, epoch, batches)| MovedProducer {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        batches,
    })
}

fn open_stream() -> impl Strategy<Value = OpenStream> {
    let epochs = vec((0_i32..4, 0_i64..60), 0..3);
    (prop_oneof![8 => 0_i64..60, 1 => any::<i64>()], prop_oneof![8 => 0_i32..9, 1 => any::<i32>()], epochs).prop_map(
        |(first_offset, epoch_start, mut epochs)| {
            epochs.sort_unstable();
            let epoch = |(epoch, offset)| (LeaderEpoch(epoch), StreamOffset(offset));
            OpenStream {
                first_offset: StreamOffset(first_offset),
                epoch_start: LeaderEpoch(epoch_start),
                epochs: epochs.into_iter().map(epoch).collect(),
            }
        },
    )
}

fn move_command() -> impl Strategy<Value = Command> {
    let receive = || (move_id(), stream());
    prop_oneof![
        3 => vec((topic(), 0_u32..3, (0_u32..4).prop_map(ShardId)), 1..4).prop_map(|moves| {
            let new = |(topic, partition, to)| NewMove { topic, partition, to };
            MoveStreams { moves: moves.into_iter().map(new).collect() }.into()
        }),
        4 => (move_id(), stream(), option::of((0_i64..3).prop_map(ProducerId)))
            .prop_map(|(id, stream, after)| CloseStream { id, stream, after }.into()),
        4 => receive().prop_map(|(id, stream)| ReceiveStream::prepare(id, stream).into()),
        4 => (receive(), vec(moved_producer(), 0..3), option::of(open_stream()))
            .prop_map(|((id, stream), producers, open)| ReceiveStream { id, stream, producers, open }.into()),
        3 => ((1_u64..60).prop_map(MoveId), topic(), 0_u32..3, 0_i64..20).prop_map(|(id, topic, partition, offset)| {
            CompleteMove { id, topic, partition, from_offset: StreamOffset(offset) }.into()
        }),
        1 => receive().prop_map(|(id, stream)| CancelMove { id, at: CancelAt::Shard(stream) }.into()),
        1 => ((1_u64..60).prop_map(MoveId), topic(), 0_u32..3)
            .prop_map(|(id, topic, partition)| CancelMove { id, at: CancelAt::Metadata { topic, partition } }.into()),
    ]
}

fn data_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => vec(new_stream(), 1..4).prop_map(|streams| CreateStreams { streams }.into()),
        2 => vec(stream(), 1..3).prop_map(|streams| DeleteStreams { streams }.into()),
        30 => append().prop_map(Command::from),
        4 => (upload(), 0_u32..3, 0_u32..2).prop_map(|(upload, part, tens)| StagePart { upload, part, body_bytes: tens * 10 }.into()),
        1 => vec(upload(), 0..3).prop_map(|uploads| AbandonParts { uploads }.into()),
        4 => prop_oneof![(0_u64..150).prop_map(LogIndex), Just(LogIndex(u64::MAX))].prop_map(|through| Seal { through }.into()),
        4 => vec((stream(), 0_i64..60, any::<bool>()), 1..3).prop_map(|fronts| {
            let front = |(stream, before, ended)| StreamFront {
                stream,
                before: StreamOffset(before),
                files: FileNumber(0),
                part_files: FileNumber(0),
                ended,
            };
            DeleteRecords { fronts: fronts.into_iter().map(front).collect() }.into()
        }),
        3 => (0_u32..6, 0_u32..6, 0_u64..1_000).prop_map(|(first, more, key)| {
            PutObject { key: ObjectKey(key), ..put_object(first, first + more) }.into()
        }),
        3 => (stream(), 0_u32..4, 0_u32..6, 0_u64..1_000).prop_map(|(stream, first, more, key)| {
            PutCompacted { key: ObjectKey(key), ..put_compacted(stream.0, first, first + more) }.into()
        }),
        1 => (0_u64..3).prop_map(|leader| LeaderChange { leader: NodeId(leader) }.into()),
        1 => (0_u32..4).prop_map(|count_max| ExpireProducers { count_max }.into()),
        1 => Just(Tick {}.into()),
        1 => settings().prop_map(|settings| Configure { settings }.into()),
    ]
}

fn group_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => (group(), 0_u64..4).prop_map(|(group, expected)| PutGroup { group, expected: GroupVersion(expected) }.into()),
        1 => name().prop_map(|group_id| DeleteGroup { group_id }.into()),
        4 => commit().prop_map(Command::from),
        1 => (name(), vec((topic(), 0_i32..3), 0..3)).prop_map(|(group_id, partitions)| {
            let key = |(topic, partition)| OffsetKey { topic, partition: Partition(partition) };
            DeleteOffsets::Group { group_id, partitions: partitions.into_iter().map(key).collect() }.into()
        }),
        1 => vec(topic(), 0..2).prop_map(|topics| DeleteOffsets::Topics { topics }.into()),
    ]
}

fn metadata_command() -> impl Strategy<Value = Command> {
    let topics = || vec(topic(), 0..3);
    prop_oneof![
        4 => vec(new_topic(), 1..3).prop_map(|topics| CreateTopics { topics }.into()),
        3 => topics().prop_map(|topics| CompleteTopics { topics }.into()),
        2 => topics().prop_map(|topics| DeleteTopics { topics }.into()),
        1 => topics().prop_map(|topics| AbandonTopics { topics }.into()),
        2 => topics().prop_map(|topics| CompleteDeletion { topics }.into()),
        2 => (topic(), 0_u32..4, vec((0_u32..3).prop_map(ShardId), 0..3))
            .prop_map(|(topic, current, added)| AddPartitions { topic, current, added }.into()),
        2 => (topic(), 0_u32..6).prop_map(|(topic, total)| CompletePartitions { topic, total }.into()),
        3 => vec(alteration(), 0..3).prop_map(|alterations| AlterConfigs { alterations }.into()),
        1 => prop_oneof![0_u32..5, Just(u32::MAX)].prop_map(|count| AllocateProducerIds { count }.into()),
        1 => (0_u64..3, 0_u64..3, option::of(name())).prop_map(|(id, start_number, rack)| {
            let addresses = vec![NodeAddress { listener: "kafka".to_owned(), host: "h".to_owned(), port: 9092 }];
            RegisterNode { node: NodeRecord { id: NodeId(id), start_number, rack, addresses } }.into()
        }),
        1 => vec((0_u32..3).prop_map(|id| ShardRecord { id: ShardId(id), voters: vec![NodeId(1)] }), 0..3)
            .prop_map(|shards| PutShards { shards }.into()),
        1 => vec((0_u16..1030, 0_u16..1030, 0_u32..3), 0..3).prop_map(|ranges| {
            let range = |(first, last, shard)| SlotRange { first, last, shard: ShardId(shard) };
            AssignSlots { ranges: ranges.into_iter().map(range).collect() }.into()
        }),
        1 => (0_u128..4).prop_map(|birth| AdmitNode { birth, rack: None, addresses: Vec::new() }.into()),
        1 => (0_u64..4, 0_u64..3, option::of(name())).prop_map(|(id, start_number, rack)| {
            AnnounceNode { node: NodeRecord { id: NodeId(id), start_number, rack, addresses: Vec::new() } }.into()
        }),
        1 => (0_u64..4, prop_oneof![Just(Standing::Member), Just(Standing::Draining), Just(Standing::Removed)])
            .prop_map(|(node, standing)| SetStanding { node: NodeId(node), standing }.into()),
        1 => vec((0_u32..4, 0_u64..3), 0..3).prop_map(|shards| {
            let shard = |(id, founder)| NewShard { id: ShardId(id), founder: NodeId(founder) };
            OpenShards { shards: shards.into_iter().map(shard).collect() }.into()
        }),
        1 => vec((0_u32..4).prop_map(ShardId), 0..3).prop_map(|shards| CompleteShards { shards }.into()),
        1 => (0_u32..4, vec((0_u64..4).prop_map(NodeId), 0..5)).prop_map(|(level, nodes)| RaiseFeatures { level, nodes }.into()),
        1 => (0_u64..9, vec((0_u64..4).prop_map(NodeId), 0..5)).prop_map(|(n, removed)| SkipIds { ids: n, nodes: n / 4, epochs: 1, removed }.into()),
        2 => (0_u8..8).prop_map(|n| if n % 2 == 0 { SetRebalancing { on: n > 2 }.into() } else { SetCopies { copies: n }.into() }),
        1 => (topic(), 0_u32..3, 0_i64..25).prop_map(|(topic, partition, before)| {
            SetLogStart { topic, partition, before: StreamOffset(before) }.into()
        }),
        1 => any::<u128>().prop_map(|cluster_id| CreateCluster { cluster_id }.into()),
    ]
}

/// Any command.
pub(super) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![10 => data_command(), 4 => group_command(), 4 => metadata_command(), 3 => move_command(),
        1 => slots::slot_command()]
}

/// An entry of some commands, with what its term and time do.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) commands: Vec<Command>,
    pub(super) new_term: bool,
    pub(super) time_ms: i64,
    /// What the node does beside applying.
    pub(super) beside: Beside,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Beside {
    Nothing,
    /// The files of all seals so far become durable.
    Durable,
    Begin {
        base: bool,
    },
    Capture {
        budget: usize,
    },
    Abort,
    Digest,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let beside = prop_oneof![
        8 => Just(Beside::Nothing),
        2 => Just(Beside::Durable),
        2 => prop::bool::weighted(0.2).prop_map(|base| Beside::Begin { base }),
        8 => (1_usize..12).prop_map(|budget| Beside::Capture { budget }),
        1 => Just(Beside::Abort),
        1 => Just(Beside::Digest),
    ];
    (vec(command(), 0..5), prop::bool::weighted(0.1), 0_i64..5000, beside)
        .prop_map(|(commands, new_term, time_ms, beside)| Step { commands, new_term, time_ms, beside })
}
