//! What is said is understood, and nothing else is.

use super::*;

fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: LogIndex(index) }
}

fn piece(index: u64, payload_bytes: u32, from: u32, bytes: usize) -> Piece {
    let bytes = Bytes::from(vec![7; bytes]);
    Piece { id: id(3, index), kind: EntryKind::Commands, payload_bytes, from, bytes }
}

fn asks() -> Vec<Ask> {
    vec![
        Ask::Begin { node: NodeId(7), have: None, reach: LogIndex(0) },
        Ask::Begin { node: NodeId(7), have: Some(id(4, 90)), reach: LogIndex(120) },
        Ask::Files { pin: 9, behind: FileNumber(4) },
        Ask::File { pin: 9, file: FileNumber(4), position: 1 << 40 },
        Ask::Entries { pin: u64::MAX, from: LogIndex(7), byte: 5 },
        Ask::Checkpoint { pin: 1, position: 0 },
        Ask::End { pin: 1 },
        Ask::Object { pin: Some(3), object: ObjectKey(u64::MAX), position: 1 << 50, bytes: 7 },
        Ask::Object { pin: None, object: ObjectKey(1), position: 0, bytes: 0 },
    ]
}

fn answers() -> Vec<Answer> {
    vec![
        Answer::Later(Later::Behind),
        Answer::Later(Later::Damaged),
        Answer::Offer(Offer { pin: 1, at: id(2, 3), checkpoint_bytes: 4, index_bytes: 5, entry_bytes: 6 }),
        Answer::Files { more: true, files: vec![(FileNumber(1), 10), (FileNumber(9), 11)] },
        Answer::Part(Bytes::from_static(b"part")),
        Answer::Gone,
        Answer::Entries { end: true, pieces: Vec::new() },
        Answer::Entries {
            end: false,
            pieces: vec![piece(5, 3, 0, 3), piece(9, 40_000, 0, 40_000), piece(10, 0, 0, 0)],
        },
        Answer::Entries { end: false, pieces: vec![piece(5, 90, 30, 20)] },
        Answer::Chunks { end: true, bytes: Bytes::from_static(b"chunks") },
        Answer::Ended,
    ]
}

#[test]
fn what_is_said_is_understood() {
    for ask in asks() {
        assert_eq!(decode_ask(encode_ask(ask)), Ok(ask));
    }
    for answer in answers() {
        assert_eq!(decode_answer(encode_answer(answer.clone()).to_bytes()), Ok(answer));
    }
}

#[test]
fn what_is_cut_or_goes_on_is_refused() {
    for ask in asks() {
        let bytes = encode_ask(ask);
        for length in 0..bytes.len() {
            assert!(decode_ask(bytes.slice(..length)).is_err(), "{ask:?} of {length} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode_ask(Bytes::from(longer)), Err(DecodeError::Trailing(1)));
    }
    for answer in answers() {
        let bytes = encode_answer(answer.clone()).to_bytes();
        for length in 0..bytes.len().min(200) {
            assert!(decode_answer(bytes.slice(..length)).is_err(), "{answer:?} of {length} bytes");
        }
    }
}

#[test]
fn any_flipped_bit_is_seen() {
    for answer in answers() {
        let bytes = encode_answer(answer).to_bytes().to_vec();
        for place in 0..bytes.len().min(300) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 4;
            assert!(decode_answer(Bytes::from(flipped)).is_err());
        }
    }
}

#[test]
fn pieces_rise_and_lie_within_their_entries() {
    for pieces in [
        vec![piece(5, 1, 0, 1), piece(5, 1, 0, 1)],
        vec![piece(6, 1, 0, 1), piece(5, 1, 0, 1)],
        vec![piece(5, 10, 8, 3)],
        vec![piece(5, 10, u32::MAX, 3)],
    ] {
        let bytes = encode_answer(Answer::Entries { end: false, pieces }).to_bytes();
        assert!(decode_answer(bytes).is_err());
    }
    for files in
        [vec![(FileNumber(0), 1)], vec![(FileNumber(2), 1), (FileNumber(2), 1)], vec![(FileNumber(u32::MAX), 1)]]
    {
        let bytes = encode_answer(Answer::Files { more: false, files }).to_bytes();
        assert_eq!(decode_answer(bytes), Err(DecodeError::Order));
    }
}

#[test]
fn another_version_is_refused() {
    let mut bytes = encode_ask(Ask::End { pin: 1 }).to_vec();
    bytes[0] = 2;
    assert_eq!(decode_ask(Bytes::from(bytes)), Err(DecodeError::Version(2)));
}
