//! What one request may be answered with when each thing that it names has much to say.
//!
//! A short request can name much. Repeats are answered once, and beyond a part of the memory for answers what is left
//! is refused, so that no request makes an answer that the node has no room for.

use std::collections::BTreeSet;

use crate::context::Context;

/// One answer may take this part of what all have together.
const PART: usize = 4;

pub(super) struct Room {
    left: usize,
}

impl Room {
    pub(super) fn of(context: &Context) -> Self {
        Self { left: context.broker().memory().answers().bytes_max() / PART }
    }

    /// Whether nothing more should be looked for.
    pub(super) const fn is_used_up(&self) -> bool {
        self.left == 0
    }

    /// Counts what was found; what goes beyond is given, and ends the room.
    pub(super) const fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// Keeps the first of each.
pub(super) fn without_repeats<T>(items: &mut Vec<T>, name: impl Fn(&T) -> String) {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(name(item)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_stays() {
        let mut items = vec![(1, "a"), (2, "b"), (3, "a")];
        without_repeats(&mut items, |(_, name)| (*name).to_owned());
        assert_eq!(items, [(1, "a"), (2, "b")]);
    }

    #[test]
    fn what_goes_beyond_ends_the_room() {
        let mut room = Room { left: 10 };
        room.take(9);
        assert!(!room.is_used_up());
        room.take(1_000);
        assert!(room.is_used_up());
    }
}
