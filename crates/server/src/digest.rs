//! `rosettamq log digest`: what the shards of a stopped node came to, as numbers that can be compared with those of other
//! nodes, of a copy of the directory, or of another version of the program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use base::Env;
use cluster::{Config, Replayed};
use record::{LogIndex, ShardId};

use crate::client::{Table, print};

/// A new segment is small: the directory may be a copy on a small disk.
const SEGMENT_BYTES: u64 = 4 << 20;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) directory: PathBuf,
    pub(crate) through: Vec<(u32, u64)>,
    pub(crate) json: bool,
}

/// Reads `SHARD:INDEX`.
pub(crate) fn parse_through(text: &str) -> Result<(u32, u64), String> {
    let parse = || {
        let (shard, index) = text.split_once(':')?;
        Some((shard.parse().ok()?, index.parse().ok()?))
    };
    parse().ok_or_else(|| format!("{text:?} is not SHARD:INDEX, two numbers"))
}

pub(crate) fn run(wish: &Wish) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let config = Config { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0, ..Config::new(wish.directory.clone()) };
    let through: BTreeMap<ShardId, LogIndex> =
        wish.through.iter().map(|(shard, index)| (ShardId(*shard), LogIndex(*index))).collect();
    let digests = runtime.block_on(Box::pin(cluster::digests(Env::real(), config, &through)));
    let digests = digests.with_context(|| format!("no digests of {}", wish.directory.display()))?;
    Ok(print(&if wish.json { json(&digests) } else { table(&digests) })?)
}

fn table(digests: &[(ShardId, Option<Replayed>)]) -> String {
    let mut table = Table::new(&["SHARD", "TERM", "INDEX", "DIGEST", "CHECKPOINT"]);
    for (shard, replayed) in digests {
        let nothing = || "-".to_owned();
        table.row(vec![
            shard.to_string(),
            replayed.map_or_else(nothing, |replayed| replayed.last.term.to_string()),
            replayed.map_or_else(nothing, |replayed| replayed.last.index.to_string()),
            replayed.map_or_else(|| "not whole".to_owned(), |replayed| format!("{:016x}", replayed.digest)),
            replayed.and_then(|replayed| replayed.checkpoint).map_or_else(nothing, |index| index.to_string()),
        ]);
    }
    table.render()
}

fn json(digests: &[(ShardId, Option<Replayed>)]) -> String {
    let mut out = "{\"shards\":[".to_owned();
    for (place, (shard, replayed)) in digests.iter().enumerate() {
        let _ = write!(out, "{}\n{{\"shard\":{shard}", if place == 0 { "" } else { "," });
        if let Some(Replayed { last, digest, checkpoint }) = replayed {
            let checkpoint = checkpoint.map_or_else(|| "null".to_owned(), |index| index.to_string());
            let _ = write!(
                out,
                ",\"term\":{},\"index\":{},\"digest\":\"{digest:016x}\",\"checkpoint\":{checkpoint}",
                last.term, last.index
            );
        }
        out.push('}');
    }
    out.push_str("\n]}\n");
    out
}

#[cfg(test)]
mod tests {
    use record::Term;
    use storage::LogId;

    use super::*;

    #[test]
    fn digests_are_lines_of_a_table_or_one_object() {
        let last = LogId { term: Term(2), index: LogIndex(30) };
        let digests =
            [(ShardId(0), Some(Replayed { last, digest: 0xab, checkpoint: Some(LogIndex(7)) })), (ShardId(1), None)];
        let text = table(&digests);
        assert!(text.contains("00000000000000ab") && text.contains("not whole"), "{text}");
        assert_eq!(
            json(&digests),
            "{\"shards\":[\n{\"shard\":0,\"term\":2,\"index\":30,\"digest\":\"00000000000000ab\",\"checkpoint\":7},\n\
             {\"shard\":1}\n]}\n"
        );
    }

    #[test]
    fn an_entry_of_a_shard_is_two_numbers() {
        assert_eq!(parse_through("3:1200"), Ok((3, 1200)));
        for wrong in ["", "3", "3:", ":4", "a:1", "1:-1"] {
            assert!(parse_through(wrong).is_err(), "{wrong}");
        }
    }
}
