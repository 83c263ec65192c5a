//! Places in the log: a segment's sequence number and a byte in it. Ordered as the log is written.

use std::fmt;

/// A byte of the log. `offset` counts from the start of the segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Position {
    pub(crate) sequence: u32,
    pub(crate) offset: u32,
}

impl Position {
    pub(crate) const fn new(sequence: u32, offset: u32) -> Self {
        Self { sequence, offset }
    }

    pub(crate) fn pack(self) -> u64 {
        u64::from(self.sequence) << 32 | u64::from(self.offset)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is meant")]
    pub(crate) const fn unpack(packed: u64) -> Self {
        Self { sequence: (packed >> 32) as u32, offset: packed as u32 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.sequence, self.offset)
    }
}

/// Rounds up to a multiple of `alignment`, a power of two.
pub(crate) const fn align_up(value: u32, alignment: u32) -> u32 {
    (value + alignment - 1) & !(alignment - 1)
}

/// The file name of a segment.
pub(crate) fn segment_name(sequence: u32) -> String {
    format!("{sequence:010}.segment")
}

/// The sequence number in a file name, if it is one of [`segment_name`].
pub(crate) fn parse_segment_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".segment")?;
    let sequence = digits.parse().ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_the_order() {
        let positions =
            [Position::new(0, 0), Position::new(0, u32::MAX), Position::new(1, 0), Position::new(u32::MAX, 7)];
        assert!(positions.windows(2).all(|pair| pair[0].pack() < pair[1].pack()));
        assert!(positions.iter().all(|position| Position::unpack(position.pack()) == *position));
    }

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(parse_segment_name(&segment_name(12)), Some(12));
        assert_eq!(parse_segment_name("12.segment"), None);
        assert_eq!(parse_segment_name("0000000012.segment.bak"), None);
        assert_eq!(parse_segment_name("99999999999.segment"), None);
    }
}
