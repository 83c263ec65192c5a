//! No node finds damage in what it has written itself, unless bits of its disk flipped: what a loss of power tears was not
//! synced, and is no damage.

use super::{Violation, violation};

/// How every finding begins.
const FOUND: &str = "damage in ";

/// A process on `host` has ended by itself and said why.
pub(super) fn ended(host: &str, why: &str, is_damaged: bool) -> Result<(), Violation> {
    match why.find(FOUND) {
        Some(found) if !is_damaged => violation("no damage", format!("{host} ended: {}", &why[found..])),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_without_a_cause_is_told() {
        let found = "the commit log cannot be opened: damage in /data/log/0000000001.segment at 4096, 17 bytes";
        assert!(ended("node1", found, false).is_err());
        ended("node1", found, true).unwrap();
        ended("node1", "cannot write /data/log/0000000001.segment: input/output error", false).unwrap();
    }
}
