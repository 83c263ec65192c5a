//! Which segments the log let go, in a file beside the segments: a number that is neither there nor in
//! it is of a file that somebody took away.
//!
//! Segments are numbered without gaps, so the list is the gaps between those that live. It is durable
//! before the first of them goes. A log without the list is one of which nothing can be told.
//!
//! ```text
//! RosettaMQ segments let go
//! from 1 through 17
//! ```

use std::fmt::Write as _;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use base::disk::Disk;

use super::{read_text, write_text};
use crate::passing::{failed_write, is_full, remove_file};

pub(crate) const NAME: &str = "LET-GO";
const TITLE: &str = "RosettaMQ segments let go";

/// Numbers of segments: ranges in order that do not overlap.
pub(crate) type Numbers = Vec<RangeInclusive<u32>>;

/// The list in the folder of a log; none when there is none that can be read as one.
pub(crate) async fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Numbers>> {
    let Some(bytes) = read_text(disk, &dir.join(NAME)).await? else { return Ok(None) };
    let numbers = parse(&bytes);
    if numbers.is_none() {
        let path = dir.join(NAME);
        tracing::error!(path = %path.display(), "this is no list of segments that were let go: it is made anew");
    }
    Ok(numbers)
}

/// Makes the list durable, or its absence when it finds no room: without the list nothing is missed, and a log on a
/// full disk can go on to let go. Blocks.
pub(crate) async fn record(disk: &dyn Disk, dir: &Path, numbers: &Numbers) -> io::Result<()> {
    match write_text(disk, dir, NAME, &show(numbers)).await {
        Err(error) if is_full(&error) => {
            tracing::warn!(path = %dir.join(NAME).display(), "no room for the list of segments that were let go: it is removed");
            remove_file(disk, &dir.join(NAME))?;
            disk.sync_dir(dir).map_err(failed_write)
        }
        written => written,
    }
}

/// The numbers below the last of `present` that are neither there nor let go.
pub(crate) fn missing(present: &[u32], let_go: &Numbers) -> Numbers {
    let through = present.iter().max().map_or(0, |last| last - 1);
    without(&absent(present, through), let_go)
}

/// The numbers up to `through` that are not in `present`.
pub(crate) fn absent(present: &[u32], through: u32) -> Numbers {
    let mut present = present.to_vec();
    present.sort_unstable();
    let present: Numbers = present.into_iter().map(|number| number..=number).collect();
    without(&vec![1..=through], &present)
}

/// What is in one list and not in the other.
pub(crate) fn without(numbers: &Numbers, others: &Numbers) -> Numbers {
    let mut left = Vec::new();
    let mut others = others.iter().peekable();
    for range in numbers {
        let mut next = u64::from(*range.start());
        while others.next_if(|other| other.end() < range.start()).is_some() {}
        let mut ahead = others.clone();
        while let Some(other) = ahead.next_if(|other| other.start() <= range.end()) {
            left.extend(range_of(next, u64::from(*other.start())));
            next = next.max(u64::from(*other.end()) + 1);
        }
        left.extend(range_of(next, u64::from(*range.end()) + 1));
    }
    left
}

/// The range from one number up to before another, if there is anything in it.
fn range_of(from: u64, behind: u64) -> Option<RangeInclusive<u32>> {
    let number = |number: u64| u32::try_from(number).expect("between two numbers of segments");
    (from < behind).then(|| number(from)..=number(behind - 1))
}

/// Adds numbers that are not in the list.
pub(crate) fn add(numbers: &mut Numbers, new: impl IntoIterator<Item = u32>) {
    numbers.extend(new.into_iter().map(|number| number..=number));
    numbers.sort_unstable_by_key(|range| *range.start());
    numbers.dedup_by(|next, before| {
        let meets = *next.start() <= before.end().saturating_add(1);
        if meets {
            *before = *before.start()..=*before.end().max(next.end());
        }
        meets
    });
}

fn show(numbers: &Numbers) -> String {
    let mut text = format!("{TITLE}\n");
    for range in numbers {
        writeln!(text, "from {} through {}", range.start(), range.end()).expect("writing to a string succeeds");
    }
    text
}

fn parse(bytes: &[u8]) -> Option<Numbers> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next() != Some(TITLE) {
        return None;
    }
    let mut numbers = Numbers::new();
    for line in lines {
        let (from, through) = line.strip_prefix("from ")?.split_once(" through ")?;
        let range: RangeInclusive<u32> = from.parse().ok()?..=through.parse().ok()?;
        let follows = numbers.last().is_none_or(|before| before.end() < range.start());
        if range.is_empty() || !follows {
            return None;
        }
        numbers.push(range);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let numbers = vec![1..=17, 19..=19];
        assert_eq!(parse(show(&numbers).as_bytes()), Some(numbers));
        assert_eq!(parse(show(&Vec::new()).as_bytes()), Some(Vec::new()));
        for text in ["", "x", &format!("{TITLE}\nfrom 3 through 2\n"), &show(&vec![3..=4, 2..=2])] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_number_that_is_neither_there_nor_let_go_is_missing() {
        assert_eq!(missing(&[8, 3, 5], &vec![1..=2]), [4..=4, 6..=7]);
        assert_eq!(missing(&[3, 5], &vec![1..=2, 4..=4]), []);
        assert_eq!(missing(&[3, 9], &vec![1..=1, 5..=6, 8..=20]), [2..=2, 4..=4, 7..=7]);
        assert_eq!(missing(&[], &vec![1..=2]), []);
        assert_eq!(missing(&[u32::MAX], &Vec::new()), [1..=u32::MAX - 1]);
        assert_eq!(absent(&[2], 4), [1..=1, 3..=4]);
        assert_eq!(without(&vec![1..=9], &vec![2..=3, 5..=5]), [1..=1, 4..=4, 6..=9]);
        assert_eq!(without(&vec![1..=4, 6..=9], &vec![3..=7]), [1..=2, 8..=9]);
    }

    #[test]
    fn numbers_that_meet_are_one_range() {
        let mut numbers = vec![1..=4, 7..=7];
        add(&mut numbers, [6, 9]);
        assert_eq!(numbers, [1..=4, 6..=7, 9..=9]);
        add(&mut numbers, [8, 5]);
        assert_eq!(numbers, [1..=9]);
    }
}
