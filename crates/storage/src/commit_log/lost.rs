//! What an operator gave up: entries that are gone for good, in a file beside the segments.
//!
//! A loss is accepted once. From then on it is told at every start, reads of it answer damage, and
//! it refuses no start.
//!
//! ```text
//! RosettaMQ accepted loss
//! shard 1 from 145 through 145 position 12288 file 0000000001.segment
//! ```

pub(crate) mod let_go;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::path::Path;

use base::disk::{Disk, File, OpenOptions, read_exact_at};
use record::{LogIndex, ShardId};

use super::Damage;
use crate::passing::failed_write;

const NAME: &str = "LOST";
const TITLE: &str = "RosettaMQ accepted loss";
/// More than any number of losses that someone accepts.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Accepted losses by shard. Every one has its entries.
pub(crate) type Losses = BTreeMap<ShardId, Vec<Damage>>;

pub(crate) async fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Losses> {
    let path = dir.join(NAME);
    let Some(bytes) = read_text(disk, &path).await? else { return Ok(Losses::new()) };
    parse(dir, &bytes).ok_or_else(|| {
        let text = format!("{} is no list of accepted losses; remove it to be told of them again", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// Makes the list durable. Blocks.
pub(crate) async fn write(disk: &dyn Disk, dir: &Path, losses: &Losses) -> io::Result<()> {
    write_text(disk, dir, NAME, &show(losses)).await
}

async fn read_text(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenOptions::read()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.len()?.min(FILE_BYTES_MAX)).expect("16 MiB");
    Ok(Some(read_exact_at(&*file, 0, len).await?.to_vec()))
}

/// The file has the old text or the new one whenever the power goes.
async fn write_text(disk: &dyn Disk, dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let file = disk.open(&new, OpenOptions::replace())?;
    if let Err(error) = write_and_sync(&*file, text).await {
        drop(file);
        // The space matters more than a second error.
        let _ = disk.remove(&new);
        return Err(failed_write(error));
    }
    disk.rename(&new, &dir.join(name))?;
    disk.sync_dir(dir).map_err(failed_write)
}

async fn write_and_sync(file: &dyn File, text: &str) -> io::Result<()> {
    file.write_at(0, &[IoSlice::new(text.as_bytes())]).await?;
    file.sync_data().await
}

fn show(losses: &Losses) -> String {
    let mut text = format!("{TITLE}\n");
    for (shard, losses) in losses {
        for Damage { file, position, indexes, .. } in losses {
            let Some(indexes) = indexes else { continue };
            let (from, through) = (indexes.start(), indexes.end());
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            writeln!(text, "shard {shard} from {from} through {through} position {position} file {name}")
                .expect("writing to a string succeeds");
        }
    }
    text
}

fn parse(dir: &Path, bytes: &[u8]) -> Option<Losses> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next() != Some(TITLE) {
        return None;
    }
    let mut losses = Losses::new();
    for line in lines {
        let mut words = line.split(' ');
        let mut value = |key: &str| (words.next()? == key).then(|| words.next()).flatten();
        let shard = ShardId(value("shard")?.parse().ok()?);
        let from = LogIndex(value("from")?.parse().ok()?);
        let through = LogIndex(value("through")?.parse().ok()?);
        let position = value("position")?.parse().ok()?;
        let file = dir.join(value("file")?);
        let damage = Damage { file, position, bytes: 0, indexes: Some(from..=through) };
        losses.entry(shard).or_default().push(damage);
    }
    Some(losses)
}

/// The parts of `ranges` that are in none of `known`. Both have ranges that are not empty.
pub(crate) fn without(range: RangeInclusive<u64>, known: &[Damage]) -> Vec<RangeInclusive<u64>> {
    let mut left = vec![range];
    for known in known.iter().filter_map(|damage| damage.indexes.as_ref()) {
        let (from, through) = (known.start().0, known.end().0);
        left = left
            .into_iter()
            .flat_map(|range| {
                let before = *range.start()..=(*range.end()).min(from.wrapping_sub(1));
                let behind = (*range.start()).max(through.saturating_add(1))..=*range.end();
                [(from > 0).then_some(before), (through < u64::MAX).then_some(behind)]
            })
            .flatten()
            .filter(|range| !range.is_empty())
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(from: u64, through: u64) -> Damage {
        let file = Path::new("/log/0000000003.segment").to_owned();
        Damage { file, position: 8192, bytes: 0, indexes: Some(LogIndex(from)..=LogIndex(through)) }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let losses: Losses = [(ShardId(1), vec![damage(3, 5), damage(9, 9)]), (ShardId(2), vec![damage(0, 7)])].into();
        assert_eq!(parse(Path::new("/log"), show(&losses).as_bytes()), Some(losses));
        assert_eq!(parse(Path::new("/log"), b"something\n"), None);
    }

    #[test]
    fn what_is_accepted_is_lost_no_more() {
        let known = [damage(3, 5), damage(9, 9)];
        assert_eq!(without(0..=10, &known), [0..=2, 6..=8, 10..=10]);
        assert_eq!(without(4..=9, &known), [6..=8]);
        assert_eq!(without(3..=5, &known), []);
        assert_eq!(without(0..=1, &[damage(0, 0)]), [1..=1]);
    }
}
