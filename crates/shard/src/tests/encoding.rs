//! The form of commands and entries in the log, which never changes.

use bytes::Bytes;
use proptest::prelude::*;
use record::{LogIndex, Term, TimestampMs};

use super::harness::{Node, SHARD, plain};
use super::strategies::command;
use crate::codec::{DecodeError, Reader};
use crate::commands::Tick;
use crate::{
    BODY_JOINED_BYTES, Command, ENTRY_HEADER_BYTES, EntryBuilder, EntryCommands, EntryHeader, Shard, entry_head_bytes,
};

fn encoded(command: &Command) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes);
    bytes
}

#[test]
fn numbers_of_commands_never_change() {
    let expected: &[(u8, &str)] = &[
        (1, "CreateStreams"),
        (2, "DeleteStreams"),
        (3, "Append"),
        (4, "StagePart"),
        (5, "AbandonParts"),
        (6, "Seal"),
        (7, "LeaderChange"),
        (8, "ExpireProducers"),
        (9, "Tick"),
        (10, "Configure"),
        (11, "DeleteRecords"),
        (12, "PutObject"),
        (13, "PutCompacted"),
        (32, "PutGroup"),
        (33, "DeleteGroup"),
        (34, "CommitOffsets"),
        (35, "DeleteOffsets"),
        (64, "CreateTopics"),
        (65, "CompleteTopics"),
        (66, "DeleteTopics"),
        (67, "CompleteDeletion"),
        (68, "AddPartitions"),
        (69, "CompletePartitions"),
        (70, "AlterConfigs"),
        (71, "AllocateProducerIds"),
        (72, "RegisterNode"),
        (73, "PutShards"),
        (74, "AssignSlots"),
        (75, "CreateCluster"),
        (76, "AdmitNode"),
        (77, "AnnounceNode"),
        (78, "SetStanding"),
        (79, "OpenShards"),
        (80, "CompleteShards"),
        (81, "MoveStreams"),
        (82, "CloseStream"),
        (83, "ReceiveStream"),
        (84, "CompleteMove"),
        (85, "CancelMove"),
        (86, "MoveSlots"),
        (87, "CloseSlots"),
        (88, "ReceiveGroups"),
        (89, "CompleteSlots"),
        (90, "DropSlots"),
        (91, "RaiseFeatures"),
        (92, "SetRebalancing"),
        (93, "SetCopies"),
        (94, "AbandonTopics"),
        (95, "SkipIds"),
        (96, "SetLogStart"),
    ];
    assert_eq!(Command::ALL, expected);
}

#[test]
fn the_bytes_of_an_append_never_change() {
    let mut append = plain(0x0102, 3);
    append.batch.producer = Some(record::ProducerStamp {
        id: record::ProducerId(7),
        epoch: record::ProducerEpoch(1),
        base_sequence: record::Sequence(9),
    });
    let expected = [
        3, 1, 60, 0, 0, 0, // number, version, length
        1, 0, // flags, compression
        100, 0, 0, 0, 100, 0, 0, 0, 3, 0, 0, 0, // batch bytes, body bytes, records
        10, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, // timestamps
        7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 9, 0, 0, 0, // producer
        1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, // targets
    ];
    let bytes = encoded(&append.into());
    let length = u32::from_le_bytes(bytes[2..6].try_into().unwrap()) as usize;
    assert_eq!(length, bytes.len() - 6);
    assert_eq!(bytes[6..], expected[6..]);
    assert_eq!(bytes[..2], expected[..2]);
}

#[test]
fn the_header_of_an_entry_never_changes() {
    let mut entry = EntryBuilder::new();
    entry.push(&Tick {}.into(), []);
    let buffers = entry.finish(TimestampMs(5));
    assert_eq!(buffers.len(), 1);
    let expected = [
        1, 0, 0, 0, 30, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, // header
        9, 1, 0, 0, 0, 0, // tick
    ];
    assert_eq!(buffers[0][..], expected);
    assert_eq!(ENTRY_HEADER_BYTES, 24);
}

#[test]
fn small_bodies_are_joined_and_large_ones_are_not_copied() {
    let sizes = [10, 20, BODY_JOINED_BYTES, 5, BODY_JOINED_BYTES - 1];
    let mut entry = EntryBuilder::new();
    let mut large = Bytes::new();
    for (place, bytes) in sizes.into_iter().enumerate() {
        let mut append = plain(1, 1);
        append.batch.bytes = u32::try_from(bytes).unwrap();
        append.body_bytes = append.batch.bytes;
        let body = Bytes::from(vec![u8::try_from(place).unwrap(); bytes]);
        if bytes == BODY_JOINED_BYTES {
            large = body.clone();
        }
        assert_eq!(entry.push(&append.into(), [body]), place);
    }
    let bytes = entry.bytes();
    let buffers = entry.finish(TimestampMs(0));
    assert_eq!(buffers.iter().map(Bytes::len).sum::<usize>(), bytes);
    assert_eq!(buffers[1..].iter().map(Bytes::len).collect::<Vec<_>>(), [30, BODY_JOINED_BYTES, BODY_JOINED_BYTES + 4]);
    assert_eq!(buffers[2].as_ptr(), large.as_ptr());
    assert_eq!(entry_head_bytes(&buffers[0][..16]), Some(buffers[0].len()));
    assert_eq!(EntryHeader::parse(&buffers[0]).unwrap().commands, 5);
    // Each body is where its command is told that it is.
    let payload = buffers.concat();
    let mut commands = EntryCommands::parse(&payload).unwrap();
    let mut place = 0;
    while let Some(placed) = commands.next_command().unwrap() {
        let position = placed.position as usize;
        assert!(payload[position..position + sizes[place]].iter().all(|byte| usize::from(*byte) == place));
        place += 1;
    }
    assert_eq!(place, sizes.len());
}

#[test]
fn what_is_not_known_is_refused() {
    let mut bytes = encoded(&Tick {}.into());
    bytes[0] = 200;
    assert_eq!(Command::decode(&mut Reader::new(&bytes)), Err(DecodeError::UnknownCommand { number: 200 }));
    bytes[..2].copy_from_slice(&[9, 2]);
    assert_eq!(Command::decode(&mut Reader::new(&bytes)), Err(DecodeError::UnknownVersion { number: 9, version: 2 }));
    bytes[1] = 1;
    bytes[2] = 1;
    bytes.push(0);
    assert_eq!(Command::decode(&mut Reader::new(&bytes)), Err(DecodeError::TrailingBytes { bytes: 1 }));
}

#[test]
fn an_entry_that_cannot_be_decoded_takes_the_shard_out_of_service() {
    let mut node = Node::with_streams([1]);
    let good = node.entry(&[Tick {}.into(), plain(1, 1).into()]);
    let mut head = good.head.to_vec();
    let last = head.len() - 1;
    head.remove(last);
    let failed = node.shard.apply(good.index, good.term, &head).unwrap_err();
    assert_eq!(failed.index, good.index);
    assert!(failed.what.contains("cannot be decoded"), "{failed}");
    assert_eq!(node.shard.apply(good.index.next(), good.term, &good.head).unwrap_err(), failed);
}

#[test]
fn an_entry_out_of_order_names_index_and_reason() {
    let mut shard = Shard::new(SHARD);
    shard.advance(LogIndex(5), Term(2)).unwrap();
    let failed = shard.advance(LogIndex(5), Term(2)).unwrap_err();
    assert!(failed.to_string().contains("log index 5"), "{failed}");
}

proptest! {
    #[test]
    fn every_command_round_trips(command in command()) {
        let bytes = encoded(&command);
        let mut input = Reader::new(&bytes);
        prop_assert_eq!(Command::decode(&mut input), Ok(command));
        prop_assert_eq!(input.remaining(), 0);
        // Cut off anywhere it is an error.
        for length in 0..bytes.len() {
            prop_assert!(Command::decode(&mut Reader::new(&bytes[..length])).is_err());
        }
    }

    #[test]
    fn damaged_commands_are_errors_or_other_commands(command in command(), at: prop::sample::Index, value: u8) {
        let mut bytes = encoded(&command);
        let place = at.index(bytes.len());
        bytes[place] = value;
        crate::fuzz_entry(&bytes);
        let _ = Command::decode(&mut Reader::new(&bytes));
    }

    #[test]
    fn noise_is_no_entry(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzz_entry(&noise);
        crate::fuzz_apply(&noise);
        crate::fuzz_restore(&noise);
    }
}
