//! Checkpoints: bases, deltas, and what is refused.

use record::{LogIndex, StreamId, StreamOffset, Term};

use super::harness::{Node, SHARD, capture, dump, plain, restore, stamped};
use crate::commands::{DeleteStreams, Seal};
use crate::{CaptureRunning, Restore, RestoreError, Shard};

#[test]
fn the_empty_shard_is_captured_and_restored() {
    let mut shard = Shard::new(SHARD);
    let chunks = capture(&mut shard, false);
    let restored = restore(&chunks);
    assert_eq!(dump(&restored), dump(&shard));
}

#[test]
fn a_delta_holds_what_changed_and_nothing_else() {
    let mut node = Node::with_streams(1..=1000);
    let base = capture(&mut node.shard, false);
    node.append(plain(7, 2)).unwrap();
    assert_eq!(node.shard.changed_records(), 1);
    let delta = capture(&mut node.shard, false);
    let (base_bytes, delta_bytes) = (base.concat().len(), delta.concat().len());
    assert!(delta_bytes < base_bytes / 50, "{delta_bytes} of {base_bytes}");
    let restored = restore(base.iter().chain(&delta));
    assert_eq!(dump(&restored), dump(&node.shard));
    // A delta of nothing.
    let nothing = capture(&mut node.shard, false);
    assert_eq!(dump(&restore(base.iter().chain(&delta).chain(&nothing))), dump(&node.shard));
}

#[test]
fn many_batches_of_one_stream_come_in_pieces() {
    let mut node = Node::with_streams([1]);
    for _ in 0..50 {
        node.all(&vec![plain(1, 3).into(); 20]);
    }
    let applied = node.shard.applied();
    let start = node.shard.begin_capture(false).unwrap();
    assert_eq!((start.applied, start.base, start.newest_file), (applied, true, None));
    let expected = dump(&node.shard);
    let mut chunks = Vec::new();
    chunks.extend(node.shard.capture_some(3));
    // Meanwhile the stream grows, is sealed, grows again, and goes.
    node.append(plain(1, 1)).unwrap();
    node.one(Seal { through: LogIndex(20) });
    chunks.extend(node.shard.capture_some(2));
    node.one(Seal { through: LogIndex(1000) });
    chunks.extend(node.shard.capture_some(1));
    node.append(plain(1, 1)).unwrap();
    node.one(DeleteStreams { streams: vec![StreamId(1)] });
    chunks.extend(std::iter::from_fn(|| node.shard.capture_some(1)));
    let restored = restore(&chunks);
    assert_eq!(restored.stream(StreamId(1)).unwrap().in_memory().count(), 1000);
    assert_eq!(dump(&restored), expected);
}

#[test]
fn a_restored_shard_goes_on_with_deltas() {
    let mut node = Node::with_streams([1, 2]);
    node.append(stamped(1, 1, 7, 0, 0)).unwrap();
    let mut chunks = capture(&mut node.shard, false);
    node.shard = restore(&chunks);
    node.append(stamped(1, 1, 7, 0, 1)).unwrap();
    assert_eq!(node.shard.changed_records(), 2);
    assert!(!node.shard.begin_capture(false).unwrap().base);
    chunks.extend(std::iter::from_fn(|| node.shard.capture_some(100)));
    let mut restored = restore(&chunks);
    assert_eq!(dump(&restored), dump(&node.shard));
    assert_eq!(restored.digest(), node.shard.digest());
    assert_eq!(restored.stream(StreamId(1)).unwrap().next_offset(), StreamOffset(2));
}

#[test]
fn behind_an_aborted_capture_comes_a_base() {
    let mut node = Node::with_streams([1]);
    let _ = capture(&mut node.shard, false);
    assert!(!node.shard.begin_capture(false).unwrap().base);
    assert_eq!(node.shard.begin_capture(false), Err(CaptureRunning));
    node.shard.abort_capture();
    assert!(node.shard.capture_some(10).is_none());
    assert!(node.shard.begin_capture(false).unwrap().base);
}

#[test]
fn a_checkpoint_names_the_files_that_it_needs() {
    let mut node = Node::with_streams([1]);
    node.append(plain(1, 1)).unwrap();
    node.one(Seal { through: LogIndex(1000) });
    let start = node.shard.begin_capture(false).unwrap();
    assert_eq!(start.newest_file, Some(record::FileNumber(1)));
}

#[test]
fn missing_damaged_and_foreign_checkpoints_are_refused() {
    let mut node = Node::with_streams(1..=20);
    node.append(plain(1, 1)).unwrap();
    let base = capture(&mut node.shard, false);
    node.append(plain(1, 1)).unwrap();
    let first = capture(&mut node.shard, false);
    node.append(plain(1, 1)).unwrap();
    let second = capture(&mut node.shard, false);
    let check = |chunks: &[&Vec<Vec<u8>>]| {
        let mut restore = Restore::new(SHARD);
        for chunk in chunks.iter().flat_map(|chunks| chunks.iter()) {
            restore.chunk(chunk)?;
        }
        restore.finish().map(|_| ())
    };
    assert_eq!(check(&[&base, &first, &second]), Ok(()));
    assert!(matches!(check(&[&base, &second]), Err(RestoreError::Gap { .. })));
    assert!(matches!(check(&[&first]), Err(RestoreError::Gap { .. })));
    assert!(matches!(check(&[&base, &base]), Err(RestoreError::Gap { .. })));
    assert_eq!(check(&[]), Err(RestoreError::Incomplete));
    assert_eq!(check(&[&base[..base.len() - 1].to_vec()]), Err(RestoreError::Incomplete));
    let mut missing = base.clone();
    missing.remove(1);
    assert!(check(&[&missing]).is_err());
    let mut foreign = Restore::new(record::ShardId(99));
    assert!(matches!(foreign.chunk(&base[0]), Err(RestoreError::WrongShard { .. })));
    // A flipped bit anywhere is found by the form or by the digest.
    let whole = base.concat();
    let mut found = 0;
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        let mut restore = Restore::new(SHARD);
        found += usize::from(restore.chunk(&damaged).is_err() || restore.finish().is_err());
    }
    // All but bits of batches, which the digest has only as they were appended; storage checks every byte anyway.
    assert!(found + 60 > whole.len(), "{found} of {}", whole.len());
}

#[test]
fn what_only_a_later_version_can_have_written_is_called_that() {
    let mut node = Node::with_streams([1]);
    let base = capture(&mut node.shard, false).concat();
    let item = |kind: u8, table: u8| [kind, table, 1, 0, 0, 0, 7];
    let (put, batches) = (2, 4);
    for (later, what, number) in [(item(put, 200), "table", 200), (item(99, 1), "item", 99)] {
        let mut restore = Restore::new(SHARD);
        // Behind the header.
        let header = 6 + usize::try_from(u32::from_le_bytes(base[2..6].try_into().unwrap())).unwrap();
        restore.chunk(&base[..header]).unwrap();
        let error = restore.chunk(&later).unwrap_err();
        assert_eq!(error, RestoreError::Later { what, number });
        assert!(error.is_later());
    }
    let mut format = base.clone();
    format[6] = 2;
    assert_eq!(Restore::new(SHARD).chunk(&format), Err(RestoreError::Later { what: "format", number: 2 }));
    let mut restore = Restore::new(SHARD);
    restore.chunk(&base).unwrap();
    assert!(!restore.chunk(&item(batches, 1)).unwrap_err().is_later());
}

#[test]
fn the_applied_entry_is_part_of_a_checkpoint() {
    let mut shard = Shard::new(SHARD);
    shard.advance(LogIndex(9), Term(4)).unwrap();
    let restored = restore(&capture(&mut shard, true));
    assert_eq!(restored.applied(), Some((LogIndex(9), Term(4))));
}
