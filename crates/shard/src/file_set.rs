//! Which index files have a stream: runs of file numbers, so that a stream that is in every file costs one run.

use record::FileNumber;
use smallvec::SmallVec;

use crate::codec::{DecodeError, Reader, Wire};

/// A set of file numbers, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSet {
    /// First and last of each run; between two runs at least one number is missing.
    runs: SmallVec<[(u32, u32); 1]>,
}

impl FileSet {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.runs.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The oldest file.
    #[must_use]
    pub fn first(&self) -> Option<FileNumber> {
        self.runs.first().map(|(first, _)| FileNumber(*first))
    }

    /// The newest file.
    #[must_use]
    pub fn last(&self) -> Option<FileNumber> {
        self.runs.last().map(|(_, last)| FileNumber(*last))
    }

    /// The file at a place from 0, the oldest first.
    #[must_use]
    pub fn get(&self, place: u32) -> Option<FileNumber> {
        let mut left = place;
        for (first, last) in &self.runs {
            if left <= last - first {
                return Some(FileNumber(first + left));
            }
            left -= last - first + 1;
        }
        None
    }

    /// The newest file that is older than `file`.
    #[must_use]
    pub fn before(&self, file: FileNumber) -> Option<FileNumber> {
        let below = self.runs.partition_point(|(first, _)| *first < file.0);
        let (_, last) = self.runs.get(below.checked_sub(1)?)?;
        Some(FileNumber((*last).min(file.0 - 1)))
    }

    #[must_use]
    pub fn contains(&self, file: FileNumber) -> bool {
        let below = self.runs.partition_point(|(first, _)| *first <= file.0);
        below.checked_sub(1).and_then(|run| self.runs.get(run)).is_some_and(|(_, last)| file.0 <= *last)
    }

    /// Whether it has one of the files from `first` to `last`.
    #[must_use]
    pub fn has_any(&self, first: FileNumber, last: FileNumber) -> bool {
        let at = self.runs.partition_point(|(_, end)| *end < first.0);
        self.runs.get(at).is_some_and(|(begin, _)| *begin <= last.0)
    }

    /// Its files from `first` to `last`.
    pub fn iter_within(&self, first: FileNumber, last: FileNumber) -> impl Iterator<Item = FileNumber> + '_ {
        let at = self.runs.partition_point(|(_, end)| *end < first.0);
        let runs = self.runs[at..].iter().take_while(move |(begin, _)| *begin <= last.0);
        runs.flat_map(move |(begin, end)| (*begin.max(&first.0)..=*end.min(&last.0)).map(FileNumber))
    }

    /// All files, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = FileNumber> + '_ {
        self.runs.iter().flat_map(|(first, last)| (*first..=*last).map(FileNumber))
    }

    /// Takes out all files that are older than `file`, the oldest first.
    pub(crate) fn split_below(&mut self, file: FileNumber) -> Self {
        let mut below = Self::default();
        let whole = self.runs.partition_point(|(_, last)| *last < file.0);
        below.runs.extend(self.runs.drain(..whole));
        if let Some((first, last)) = self.runs.first_mut()
            && *first < file.0
        {
            below.runs.push((*first, file.0 - 1));
            debug_assert!(*last >= file.0, "a run that ends below was taken whole");
            *first = file.0;
        }
        below
    }

    /// Takes out all files from `first` to `last`.
    pub(crate) fn take(&mut self, first: FileNumber, last: FileNumber) -> Self {
        let mut taken = self.split_below(FileNumber(last.0.saturating_add(1)));
        let mut below = taken.split_below(first);
        below.runs.extend(self.runs.drain(..));
        *self = below;
        taken
    }

    /// Adds a file; false if it was there.
    pub(crate) fn insert(&mut self, file: FileNumber) -> bool {
        let number = file.0;
        let at = self.runs.partition_point(|(first, _)| *first <= number);
        let before = at.checked_sub(1).and_then(|run| self.runs.get(run)).copied();
        if before.is_some_and(|(_, last)| number <= last) {
            return false;
        }
        let joins_before = before.is_some_and(|(_, last)| last + 1 == number);
        let joins_behind = self.runs.get(at).is_some_and(|(first, _)| number + 1 == *first);
        match (joins_before, joins_behind) {
            (true, true) => {
                let (_, last) = self.runs.remove(at);
                self.runs[at - 1].1 = last;
            }
            (true, false) => self.runs[at - 1].1 = number,
            (false, true) => self.runs[at].0 = number,
            (false, false) => self.runs.insert(at, (number, number)),
        }
        true
    }
}

impl Wire for FileSet {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        self.runs.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let runs: SmallVec<[(u32, u32); 1]> = Wire::take(input)?;
        let ordered = runs.iter().all(|(first, last)| first <= last && *last < u32::MAX)
            && runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
        if ordered { Ok(Self { runs }) } else { Err(DecodeError::Value { what: "runs of files", value: 0 }) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_in_every_file_is_one_run() {
        let mut set = FileSet::default();
        for file in 1..=10_000 {
            assert!(set.insert(FileNumber(file)));
        }
        assert_eq!((set.runs.len(), set.len()), (1, 10_000));
    }

    proptest! {
        #[test]
        fn as_an_ordered_set(files in proptest::collection::vec(1_u32..60, 0..80)) {
            let mut set = FileSet::default();
            let mut model = BTreeSet::new();
            for file in files {
                prop_assert_eq!(set.insert(FileNumber(file)), model.insert(file));
            }
            prop_assert_eq!(set.iter().map(|file| file.0).collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert_eq!(set.last().map(|file| file.0), model.last().copied());
            for file in 0..62 {
                prop_assert_eq!(set.contains(FileNumber(file)), model.contains(&file));
                prop_assert_eq!(set.before(FileNumber(file)).map(|file| file.0), model.range(..file).next_back().copied());
                let within: Vec<u32> = set.iter_within(FileNumber(file), FileNumber(file + 3)).map(|file| file.0).collect();
                prop_assert_eq!(within, model.range(file..=file + 3).copied().collect::<Vec<_>>());
                prop_assert_eq!(set.has_any(FileNumber(file), FileNumber(file + 3)), model.range(file..=file + 3).next().is_some());
                prop_assert_eq!(set.get(file).map(|file| file.0), model.iter().nth(file as usize).copied());
            }
            let mut bytes = Vec::new();
            set.put(&mut bytes);
            prop_assert_eq!(crate::codec::decode::<FileSet>(&bytes), Ok(set.clone()));
            for file in 0..62 {
                let mut above = set.clone();
                let below = above.split_below(FileNumber(file));
                prop_assert_eq!(below.iter().map(|file| file.0).collect::<Vec<_>>(), model.range(..file).copied().collect::<Vec<_>>());
                prop_assert_eq!(above.iter().map(|file| file.0).collect::<Vec<_>>(), model.range(file..).copied().collect::<Vec<_>>());
            }
        }
    }
}
