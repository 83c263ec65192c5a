//! What could not be read and was logged: readers ask for it again and again, and it is said once.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// Causes remembered. When there are more all are said again: that much damage may fill a log.
const CAUSES_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Damages {
    said: Mutex<BTreeSet<String>>,
}

impl Damages {
    /// Whether the cause was not logged yet; from now on it was.
    pub(crate) fn are_new(&self, cause: &str) -> bool {
        let mut said = self.said.lock();
        if said.contains(cause) {
            return false;
        }
        if said.len() >= CAUSES_MAX {
            said.clear();
        }
        said.insert(cause.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_said_once_and_only_so_many_are_remembered() {
        let damages = Damages::default();
        assert!(damages.are_new("one") && !damages.are_new("one"));
        for other in 1..CAUSES_MAX {
            assert!(damages.are_new(&other.to_string()));
        }
        assert!(!damages.are_new("one"));
        assert!(damages.are_new("another") && damages.are_new("one"));
        assert!(damages.said.lock().len() <= CAUSES_MAX);
    }
}
