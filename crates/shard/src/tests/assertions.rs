//! What happens when a state is broken: here by hand, as no command can do it.

use record::{FileNumber, StreamId};

use super::harness::{Node, plain};
use crate::Command;
use crate::commands::{DeleteStreams, Seal, Tick};

fn fail(break_it: impl FnOnce(&mut Node), expected: &str) {
    let mut node = Node::with_streams([1]);
    node.append(plain(1, 1)).unwrap();
    node.one(Seal { through: record::LogIndex(u64::MAX) });
    node.append(plain(1, 1)).unwrap();
    break_it(&mut node);
    let commands: [Command; 2] = [Tick {}.into(), DeleteStreams { streams: vec![StreamId(1)] }.into()];
    let entry = node.entry(&commands);
    let failed = node.shard.apply(entry.index, entry.term, &entry.head).unwrap_err();
    assert_eq!(failed.index, entry.index);
    assert_eq!(failed.command, "1 (DeleteStreams)");
    assert!(failed.what.contains(expected), "{failed}");
    // Out of service from here on, with the same reason.
    let next = entry.index.next();
    assert_eq!(node.shard.apply(next, entry.term, &entry.head).unwrap_err(), failed);
    assert_eq!(node.shard.advance(next, entry.term), Err(failed));
}

#[test]
fn a_failed_assertion_names_index_and_command() {
    let lose = |node: &mut Node| {
        node.shard.ranges.remove(&FileNumber(1)).unwrap();
    };
    fail(lose, "is released but not there");
    fail(|node| node.shard.unsealed_batches = 0, "fewer batches are in memory");
    let release = |node: &mut Node| {
        let slot = node.shard.ranges.slot(&FileNumber(1)).unwrap();
        node.shard.ranges.derived_mut(slot).unwrap().streams = 0;
    };
    fail(release, "released more often than held");
}
