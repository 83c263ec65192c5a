//! Every outcome comes back as it was sent.

use smallvec::smallvec;

use super::*;

fn samples() -> Vec<Outcome> {
    let appended = Appended {
        base_offset: StreamOffset(7),
        duplicate: true,
        log_append_time: Some(TimestampMs(8)),
        log_start_offset: StreamOffset(0),
    };
    let sequence =
        AppendError::OutOfOrderSequence { producer: ProducerId(1), expected: Sequence(2), actual: Sequence(3) };
    let conflict = PutGroupError::Conflict { expected: GroupVersion(1), actual: GroupVersion(2) };
    vec![
        Outcome::CreateStreams(vec![Ok(()), Err(CreateStreamError::TooManyStreams { streams_max: 1 })]),
        Outcome::DeleteStreams { deleted: 3 },
        Outcome::Append(smallvec![Ok(appended), Err(sequence), Err(AppendError::UnknownStream)]),
        Outcome::StagePart(Err(StageError::OutOfOrder { expected: 1, actual: 2 })),
        Outcome::AbandonParts { abandoned: 1 },
        Outcome::Seal { sealed: Some(FileNumber(4)) },
        Outcome::LeaderChange { changes: 5 },
        Outcome::ExpireProducers { expired: 6 },
        Outcome::Tick,
        Outcome::Configure,
        Outcome::PutObject(Err(PutObjectError::Replaced)),
        Outcome::PutCompacted(Err(PutCompactedError::OlderRangesLeft)),
        Outcome::PutGroup(Err(conflict)),
        Outcome::DeleteGroup(Err(DeleteGroupError::NotEmpty)),
        Outcome::CommitOffsets(Err(CommitOffsetsError::IllegalGeneration { current: 9 })),
        Outcome::DeleteOffsets { deleted: 1 },
        Outcome::CreateTopics(vec![Ok(TopicId(1)), Err(CreateTopicError::Exists)]),
        Outcome::CompleteTopics { completed: 1 },
        Outcome::DeleteTopics(vec![Err(UnknownTopic)]),
        Outcome::CompleteDeletion { completed: 1 },
        Outcome::AddPartitions(Err(AddPartitionsError::CountChanged { current: 3 })),
        Outcome::CompletePartitions(Ok(())),
        Outcome::AlterConfigs(vec![Ok(1), Err(AlterConfigError::Conflict { current: 2 })]),
        Outcome::AllocateProducerIds(Ok(ProducerIdBlock { first: ProducerId(1), count: 2 })),
        Outcome::AllocateProducerIds(Err(ProducerIdsExhausted)),
        Outcome::RegisterNode(Err(RegisterNodeError::Stale { current: 3 })),
        Outcome::PutShards,
        Outcome::AssignSlots(Err(AssignSlotsError::UnknownShard)),
        Outcome::CreateCluster { cluster_id: 9 },
        Outcome::AdmitNode(Ok(NodeId(4))),
        Outcome::AnnounceNode(Err(AnnounceNodeError::Unknown)),
        Outcome::SetStanding(Err(SetStandingError::HasReplicas)),
        Outcome::OpenShards { opened: 1 },
        Outcome::CompleteShards { completed: 1 },
        Outcome::MoveStreams(vec![Ok(MoveId(3)), Err(MoveStreamError::OnShard)]),
        Outcome::CloseStream(Ok(ClosedStream {
            first_offset: StreamOffset(1),
            next_offset: StreamOffset(5),
            epoch: LeaderEpoch(4),
            epochs: vec![(LeaderEpoch(2), StreamOffset(1))],
            producers: Vec::new(),
            more: true,
        })),
        Outcome::CloseStream(Err(CloseStreamError::Cancelled)),
        Outcome::ReceiveStream(Ok(Received::Open { first_offset: StreamOffset(5), epoch: LeaderEpoch(5) })),
        Outcome::ReceiveStream(Err(ReceiveStreamError::TooManyStreams { streams_max: 4 })),
        Outcome::CompleteMove(Ok(())),
        Outcome::CancelMove(Err(CancelMoveError::Closed)),
        Outcome::GroupElsewhere,
        Outcome::MoveSlots(Ok(SlotMoveId(7))),
        Outcome::MoveSlots(Err(MoveSlotsError::Moving)),
        Outcome::CloseSlots(Err(CloseSlotsError::Stale { current: SlotMoveId(8) })),
        Outcome::ReceiveGroups(Ok(ReceivedGroups {
            cursor: Some(MoveCursor { group_id: "g".to_owned(), offset: None }),
            complete: false,
        })),
        Outcome::ReceiveGroups(Err(ReceiveGroupsError::NotDropped)),
        Outcome::CompleteSlots { completed: true },
        Outcome::DropSlots(Ok(true)),
        Outcome::DropSlots(Err(DropSlotsError::NotClosed)),
        Outcome::RaiseFeatures(Ok(2)),
        Outcome::RaiseFeatures(Err(RaiseFeaturesError::Unheard { node: NodeId(3) })),
        Outcome::SetRebalancing,
        Outcome::SetCopies(Ok(())),
        Outcome::SetCopies(Err(SetCopiesError::Number)),
        Outcome::SkipIds,
        Outcome::AbandonTopics(vec![Ok(()), Err(AbandonTopicError::Complete)]),
    ]
}

#[test]
fn what_is_encoded_is_decoded_and_nothing_shorter_or_longer() {
    for outcome in samples() {
        let mut bytes = Vec::new();
        outcome.encode(&mut bytes);
        assert_eq!(Outcome::decode(&bytes).as_ref(), Ok(&outcome));
        for length in 0..bytes.len() {
            assert!(Outcome::decode(&bytes[..length]).is_err(), "{outcome:?} in {length} bytes");
        }
        bytes.push(0);
        assert_eq!(Outcome::decode(&bytes), Err(DecodeError::TrailingBytes { bytes: 1 }));
    }
}
