//! Every message is read as it was written, and what no member sends is refused.

use super::super::types::{Commands, EntryPayload, Membership};
use super::*;

fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: LogIndex(index) }
}

fn vote(term: u64, committed: bool) -> ConsensusVote {
    consensus_vote(&storage::Vote { term: Term(term), node_id: NodeId(2), committed })
}

fn request() -> AppendEntriesRequest<TypeConfig> {
    let members = Membership::new(
        vec![[1, 2, 3].into()],
        std::collections::BTreeMap::from([1, 2, 3].map(|node| (node, openraft::EmptyNode {}))),
    );
    let mut builder = shard::EntryBuilder::new();
    builder.push(&shard::commands::Tick {}.into(), None);
    let commands = Payload::from_iter(builder.finish(record::TimestampMs(0)));
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Commands(Commands(commands)),
        EntryPayload::Membership(members.expect("consistent")),
    ];
    let entries = (7_u64..).zip(payloads);
    AppendEntriesRequest {
        vote: vote(5, true),
        prev_log_id: Some(consensus_log_id(id(4, 6))),
        entries: entries.map(|(index, payload)| Entry { log_id: consensus_log_id(id(5, index)), payload }).collect(),
        leader_commit: Some(consensus_log_id(id(4, 5))),
    }
}

#[test]
fn an_append_is_read_as_it_was_written() {
    let encoded = encode_append(request()).to_bytes();
    let Ok(Request::Append(read)) = decode_request(encoded.clone()) else { panic!("no append") };
    assert_eq!(format!("{read:?}"), format!("{:?}", request()));
    assert_eq!(encode_append(read).to_bytes(), encoded);
}

#[test]
fn every_shorter_or_longer_append_is_refused() {
    let encoded = encode_append(request()).to_bytes();
    for length in 0..encoded.len() {
        assert!(decode_request(encoded.slice(..length)).is_err(), "{length} bytes");
    }
    let longer: Payload = [encoded, Bytes::from_static(&[0])].into_iter().collect();
    assert_eq!(decode_request(longer.to_bytes()).err(), Some(DecodeError::Trailing(1)));
}

#[test]
fn entries_that_no_leader_sends_are_refused() {
    let mut gap = request();
    gap.entries.remove(1);
    assert_eq!(decode_request(encode_append(gap).to_bytes()).err(), Some(DecodeError::Order));
    let mut later = request();
    later.vote = vote(4, true);
    assert_eq!(decode_request(encode_append(later).to_bytes()).err(), Some(DecodeError::Term));
    let mut uncommitted = request();
    uncommitted.vote = vote(5, false);
    assert_eq!(decode_request(encode_append(uncommitted).to_bytes()).err(), Some(DecodeError::Vote));
    let mut headless = request();
    headless.entries[1].payload = EntryPayload::Commands(Commands(Payload::default()));
    assert_eq!(decode_request(encode_append(headless).to_bytes()).err(), Some(DecodeError::Commands));
    let mut last = request();
    last.leader_commit = Some(consensus_log_id(id(4, u64::MAX)));
    assert_eq!(decode_request(encode_append(last).to_bytes()).err(), Some(DecodeError::Number(u64::MAX)));
    let mut many = BytesMut::from(&encode_append(AppendEntriesRequest { entries: vec![], ..request() }).to_bytes()[..]);
    let place = many.len() - 4;
    many[place..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode_request(many.freeze()).err(), Some(DecodeError::Count(u32::MAX)));
}

#[test]
fn votes_transfers_and_answers_are_read_as_they_were_written() {
    let mut asked = VoteRequest::new(vote(3, false), Some(consensus_log_id(id(2, 9))));
    asked.leadership_transfer = true;
    for pre_vote in [false, true] {
        let read = match decode_request(encode_vote(&asked, pre_vote)) {
            Ok(Request::Vote(read)) if !pre_vote => read,
            Ok(Request::PreVote(read)) if pre_vote => read,
            other => panic!("{other:?}"),
        };
        assert_eq!(read, asked);
    }
    let transfer = TransferLeaderRequest::new(vote(3, true), 4, None);
    let Ok(Request::Transfer(read)) = decode_request(encode_transfer(&transfer)) else { panic!("no transfer") };
    assert_eq!(read, transfer);
    let voted = VoteResponse::new(vote(3, false), None, true);
    assert_eq!(decode_voted(encode_voted(&voted)), Ok(voted));
    let at = consensus_log_id(id(1, 1));
    for appended in [
        Ok(None),
        Ok(Some(at)),
        Err(StreamAppendError::Conflict(at)),
        Err(StreamAppendError::HigherVote(vote(9, false))),
    ] {
        assert_eq!(decode_appended(encode_appended(&appended)), Ok(appended));
    }
    for transferred in [
        Ok(()),
        Err(TransferLeaderError::VoteChanged { expected: vote(1, true), actual: vote(2, false) }),
        Err(TransferLeaderError::LogNotFlushed { expected: Some(at), actual: None }),
    ] {
        assert_eq!(decode_transferred(encode_transferred(&transferred)), Ok(transferred));
    }
}
