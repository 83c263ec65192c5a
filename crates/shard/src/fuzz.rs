//! Entry points for fuzz targets: whatever the bytes are, these neither panic nor take more than bounded memory, and
//! what decodes never fails an assertion.

use record::{LogIndex, ShardId, Term};

use crate::codec::{Reader, Wire};
use crate::command::Command;
use crate::entry::{EntryBuilder, EntryCommands, entry_head_bytes};
use crate::restore::Restore;
use crate::shard::Shard;

/// Decodes an entry of commands.
pub fn fuzz_entry(input: &[u8]) {
    let _ = entry_head_bytes(input);
    let Ok(mut commands) = EntryCommands::parse(input) else { return };
    while let Ok(Some(placed)) = commands.next_command() {
        let mut bytes = Vec::new();
        placed.command.encode(&mut bytes);
        let again = Command::decode(&mut Reader::new(&bytes));
        assert_eq!(again.as_ref(), Ok(&placed.command), "what decodes encodes to the same command");
    }
}

/// Applies whatever commands the bytes hold, one after the other, to a fresh shard, each in an entry of its own;
/// captures, seals becoming durable and restores come between as the bytes say.
pub fn fuzz_apply(input: &[u8]) {
    let mut shard = Shard::new(ShardId(0));
    let mut input = Reader::new(input);
    let mut index = 0;
    while let (Ok(action), Ok(command)) = (u8::take(&mut input), Command::decode(&mut input)) {
        if command.body_bytes() > 1024 * 1024 {
            continue;
        }
        index += 1 + u64::from(action % 4);
        let body = vec![0; command.body_bytes() as usize];
        let mut entry = EntryBuilder::new();
        entry.push(&command, [body.into()]);
        let buffers = entry.finish(record::TimestampMs(i64::from(action) * 1000));
        let head = buffers.first().map(|head| &head[..]).unwrap_or_default();
        let applied = shard.apply(LogIndex(index), Term(index), head);
        let applied = applied.expect("no decodable command fails an assertion");
        for sealed in applied.effects.sealed {
            if action & 4 != 0 {
                shard.sealed_durable(sealed.file);
            }
        }
        match action >> 5 {
            1 | 2 => drop(shard.begin_capture(action & 8 != 0)),
            3 | 4 => drop(shard.capture_some(usize::from(action & 15))),
            5 => shard.abort_capture(),
            _ => {}
        }
    }
    let _ = shard.digest();
}

/// Restores a shard from bytes.
pub fn fuzz_restore(input: &[u8]) {
    let mut restore = Restore::new(ShardId(0));
    if restore.chunk(input).is_ok() {
        let _ = restore.finish();
    }
}
