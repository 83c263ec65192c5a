//! A committed offset that was acknowledged is there afterwards, and none goes back. Each group and
//! partition has one committer here, whose offsets rise. A commit that was not answered may be made at
//! any time, when the network lets it through at last.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, violation};

const NAME: &str = "commits stay";

#[derive(Debug, Default)]
pub(super) struct CommitsStay {
    groups: BTreeMap<(String, i32), Commits>,
}

#[derive(Debug)]
struct Commits {
    /// The highest that somebody tried to commit.
    most: i64,
    /// The highest that was acknowledged, or read.
    least: i64,
    /// Those that were not answered.
    unsure: BTreeSet<i64>,
}

impl CommitsStay {
    fn entry(&mut self, group: &str, partition: i32) -> &mut Commits {
        self.groups.entry((group.to_owned(), partition)).or_insert(Commits {
            most: -1,
            least: -1,
            unsure: BTreeSet::new(),
        })
    }

    pub(super) fn committing(&mut self, group: &str, partition: i32, offset: i64) {
        let commits = self.entry(group, partition);
        commits.most = offset.max(commits.most);
    }

    pub(super) fn committed(&mut self, group: &str, partition: i32, offset: i64) {
        let commits = self.entry(group, partition);
        commits.least = offset.max(commits.least);
    }

    pub(super) fn unanswered(&mut self, group: &str, partition: i32, offset: i64) {
        self.entry(group, partition).unsure.insert(offset);
    }

    pub(super) fn least(&self, group: &str, partition: i32) -> i64 {
        self.groups.get(&(group.to_owned(), partition)).map_or(-1, |commits| commits.least)
    }

    pub(super) fn read(&mut self, group: &str, partition: i32, least: i64, offset: i64) -> Result<(), Violation> {
        let commits = self.entry(group, partition);
        // It was sent once, and each is of another offset: what was read is made, and is not made again.
        if commits.unsure.remove(&offset) && offset < least {
            commits.least = offset;
            return Ok(());
        }
        if offset < least {
            let what = format!("{group} is at {offset} of partition {partition} and was at {least}");
            return violation(NAME, what);
        }
        if offset > commits.most {
            let what = format!("{group} is at {offset} of partition {partition}, which nobody committed");
            return violation(NAME, what);
        }
        commits.least = offset.max(commits.least);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_went_back_or_was_never_made_is_told() {
        let mut commits = CommitsStay::default();
        assert_eq!(commits.least("g", 0), -1);
        commits.committing("g", 0, 5);
        commits.committed("g", 0, 5);
        commits.committing("g", 0, 9);
        commits.read("g", 0, commits.least("g", 0), 9).unwrap();
        let least = commits.least("g", 0);
        assert!(commits.read("g", 0, least, 5).is_err());
        assert!(commits.read("g", 0, least, 10).is_err());
        commits.unanswered("g", 0, 5);
        commits.read("g", 0, least, 5).unwrap();
        commits.committing("g", 0, 12);
        commits.committed("g", 0, 12);
        let least = commits.least("g", 0);
        assert!(commits.read("g", 0, least, 5).is_err(), "it was made already");
    }
}
