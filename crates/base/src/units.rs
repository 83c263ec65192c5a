//! Byte sizes and durations as a person writes them: `256MiB`, `1GB`, `10m`, `500ms`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// A span of time, of whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

/// Why a text is no size or duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error(
        "{text:?} is not a size; write a whole number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, for example 256MiB"
    )]
    Size { text: String },
    #[error("{text:?} is not a duration; write a whole number with ms, s, m, h or d, for example 500ms")]
    Duration { text: String },
    #[error("{text} is out of range; allowed is {min} to {max}")]
    OutOfRange { text: String, min: String, max: String },
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const DURATIONS_MS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl ByteSize {
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// As an index or length; all of the address space when larger.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// This size if it is within `range`.
    ///
    /// # Errors
    /// When it is not.
    pub fn within(self, range: RangeInclusive<Self>) -> Result<Self, UnitError> {
        within(self, range)
    }
}

impl HumanDuration {
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// This duration if it is within `range`.
    ///
    /// # Errors
    /// When it is not.
    pub fn within(self, range: RangeInclusive<Self>) -> Result<Self, UnitError> {
        within(self, range)
    }
}

fn within<T: PartialOrd + fmt::Display>(value: T, range: RangeInclusive<T>) -> Result<T, UnitError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (min, max) = range.into_inner();
    Err(UnitError::OutOfRange { text: value.to_string(), min: min.to_string(), max: max.to_string() })
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZES, Some(1)).map(Self).ok_or_else(|| UnitError::Size { text: text.to_owned() })
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let millis = parse(text, &DURATIONS_MS, None);
        millis.map(Self::from_millis).ok_or_else(|| UnitError::Duration { text: text.to_owned() })
    }
}

/// A number and a unit, with or without a space between. Units are told apart by case only where
/// the field does (kB is 1,000, KiB is 1,024); other spellings of case are taken as meant.
fn parse(text: &str, units: &[(&str, u64)], without_unit: Option<u64>) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|character: char| !character.is_ascii_digit() && character != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.replace('_', "").parse().ok()?;
    let unit = unit.trim();
    let factor = if unit.is_empty() {
        if number == 0 { Some(1) } else { without_unit }
    } else {
        units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor)
    };
    number.checked_mul(factor?)
}

impl fmt::Display for ByteSize {
    /// The largest unit that divides the size, so that parsing gives it back.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZES[..4].iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match binary {
            Some((unit, factor)) => write!(formatter, "{}{unit}", self.0 / factor),
            None => write!(formatter, "{}B", self.0),
        }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.as_millis();
        let unit = DURATIONS_MS.iter().find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor));
        let (unit, factor) = unit.copied().unwrap_or(("ms", 1));
        write!(formatter, "{}{unit}", millis / factor)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size such as \"256MiB\", or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(text.parse::<ByteSize>().ok().map(ByteSize::bytes), expected, "{text}");
    }

    fn check_duration(text: &str, expected_ms: Option<u64>) {
        assert_eq!(text.parse::<HumanDuration>().ok().map(HumanDuration::as_millis), expected_ms, "{text}");
    }

    #[test]
    fn sizes() {
        check("256MiB", Some(256 << 20));
        check("256 mib", Some(256 << 20));
        check("1GB", Some(1_000_000_000));
        check("4096", Some(4_096));
        check("1_000B", Some(1_000));
        check("", None);
        check("-1", None);
        check("1.5GiB", None);
        check("99999999TiB", None);
        check("5 parsecs", None);
    }

    #[test]
    fn durations() {
        check_duration("500ms", Some(500));
        check_duration("10m", Some(600_000));
        check_duration("1d", Some(86_400_000));
        check_duration("0", Some(0));
        check_duration("10", None);
        check_duration("1y", None);
    }

    #[test]
    fn ranges_name_what_is_allowed() {
        let error = ByteSize::mib(1).within(ByteSize::mib(4)..=ByteSize::gib(1)).unwrap_err();
        assert_eq!(error.to_string(), "1MiB is out of range; allowed is 4MiB to 1GiB");
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_back(bytes: u64, millis in 0..u64::MAX / 2) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
            let duration = HumanDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
