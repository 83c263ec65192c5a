//! Values of configuration keys: parsed and checked against the key's bounds in one place, whatever their source.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base::units::{ByteSize, HumanDuration};

use super::error::Problem;
use super::listener::{self, ListenerSpec};

/// What a page of a segment file has.
const PAGE_BYTES: u64 = 4_096;

/// What a key holds, and the bounds of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Path,
    Boolean,
    Integer {
        min: u64,
        max: u64,
    },
    /// A number of bytes: `1048576` or `1MiB`.
    Bytes {
        min: u64,
        max: u64,
    },
    /// A number of bytes in whole pages of 4 KiB.
    Pages {
        min: u64,
        max: u64,
    },
    /// A length of time with its unit: `10s`.
    Duration {
        min_ms: u64,
        max_ms: u64,
    },
    /// A length of time in a key that Kafka's users know by its name ending in `.ms`: `10000` or `10s`.
    Milliseconds {
        min_ms: u64,
        max_ms: u64,
    },
    /// Milliseconds, or -1: without limit.
    MillisecondsMax,
    /// A number of bytes, or -1: without limit.
    BytesMax,
    Choice(&'static [&'static str]),
    Listeners,
    /// One listener, or `none`.
    Listener,
    /// Addresses of other nodes, or `none`.
    Addresses,
}

/// What Kafka's keys of that kind hold at most.
const LIMIT_MAX: u64 = i64::MAX.cast_unsigned();
/// What a limit is called that is none.
const UNLIMITED: &str = "-1";

/// What a key holds that may hold nothing.
const NONE: &str = "none";

/// A value that passed its key's check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Path(PathBuf),
    Boolean(bool),
    Number(u64),
    Bytes(u64),
    Duration(Duration),
    Limit(Option<u64>),
    Listeners(Vec<ListenerSpec>),
    Addresses(Vec<(String, u16)>),
}

impl Kind {
    pub(crate) fn parse(self, text: &str) -> Result<Value, Problem> {
        let refused = || Problem::Refused { value: text.to_owned(), allowed: self.allowed() };
        let within = |number: u64, min: u64, max: u64| {
            if (min..=max).contains(&number) { Ok(number) } else { Err(refused()) }
        };
        match self {
            Self::Text | Self::Path if text.trim().is_empty() || text.contains('\0') => Err(refused()),
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Path => Ok(Value::Path(PathBuf::from(text))),
            Self::Boolean => match text {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => Err(refused()),
            },
            Self::Integer { min, max } => {
                let number = text.parse().map_err(|_| refused())?;
                Ok(Value::Number(within(number, min, max)?))
            }
            Self::Bytes { min, max } => {
                let size: ByteSize = text.parse().map_err(|_| refused())?;
                Ok(Value::Bytes(within(size.bytes(), min, max)?))
            }
            Self::Pages { min, max } => {
                let size: ByteSize = text.parse().map_err(|_| refused())?;
                if !size.bytes().is_multiple_of(PAGE_BYTES) {
                    return Err(refused());
                }
                Ok(Value::Bytes(within(size.bytes(), min, max)?))
            }
            Self::Duration { min_ms, max_ms } => {
                let ms = duration_ms(text).ok_or_else(refused)?;
                Ok(Value::Duration(Duration::from_millis(within(ms, min_ms, max_ms)?)))
            }
            Self::Milliseconds { min_ms, max_ms } => {
                let ms = match text.parse::<u64>() {
                    Ok(ms) => ms,
                    Err(_) => duration_ms(text).ok_or_else(refused)?,
                };
                Ok(Value::Duration(Duration::from_millis(within(ms, min_ms, max_ms)?)))
            }
            Self::MillisecondsMax | Self::BytesMax if text == UNLIMITED => Ok(Value::Limit(None)),
            Self::MillisecondsMax => {
                let ms = text.parse::<u64>().ok().or_else(|| duration_ms(text)).ok_or_else(refused)?;
                Ok(Value::Limit(Some(within(ms, 0, LIMIT_MAX)?)))
            }
            Self::BytesMax => {
                let size: ByteSize = text.parse().map_err(|_| refused())?;
                Ok(Value::Limit(Some(within(size.bytes(), 0, LIMIT_MAX)?)))
            }
            Self::Choice(choices) => {
                if choices.contains(&text) {
                    Ok(Value::Text(text.to_owned()))
                } else {
                    Err(refused())
                }
            }
            Self::Listener | Self::Addresses if text.trim() == NONE => Ok(match self {
                Self::Listener => Value::Listeners(Vec::new()),
                _ => Value::Addresses(Vec::new()),
            }),
            Self::Listeners | Self::Listener => {
                let refused_listener = |source| Problem::Listener { value: text.to_owned(), source };
                let listeners = listener::parse_list(text).map_err(refused_listener)?;
                if matches!(self, Self::Listener) && listeners.len() > 1 {
                    Err(refused())
                } else {
                    Ok(Value::Listeners(listeners))
                }
            }
            Self::Addresses => listener::parse_addresses(text)
                .map(Value::Addresses)
                .map_err(|source| Problem::Listener { value: text.to_owned(), source }),
        }
    }

    /// What may be written, for errors and the reference page.
    pub(crate) fn allowed(self) -> String {
        match self {
            Self::Text => "a text that is not empty".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Bytes { min, max } => {
                format!("a number of bytes such as 1048576 or 1MiB, from {} to {}", ByteSize(min), ByteSize(max))
            }
            Self::Pages { min, max } => {
                format!("a multiple of 4KiB such as 4MiB or 256MiB, from {} to {}", ByteSize(min), ByteSize(max))
            }
            Self::Duration { min_ms, max_ms } => {
                format!("a time such as 500ms or 10s, from {} to {}", show_ms(min_ms), show_ms(max_ms))
            }
            Self::Milliseconds { min_ms, max_ms } => {
                format!("milliseconds such as 10000, or a time such as 10s, from {min_ms} to {max_ms} ms")
            }
            Self::MillisecondsMax => {
                "milliseconds such as 604800000, a time such as 12h, or -1 for no limit".to_owned()
            }
            Self::BytesMax => "a number of bytes such as 1048576 or 1MiB, or -1 for no limit".to_owned(),
            Self::Choice(choices) => choices.join(" or "),
            Self::Listeners => "listeners such as 127.0.0.1:9092 or name=0.0.0.0:9092@broker.example:9092, \
                 separated by commas"
                .to_owned(),
            Self::Listener => {
                "none, or a listener such as 10.0.0.1:9190 or 0.0.0.0:9190@broker-1.example:9190".to_owned()
            }
            Self::Addresses => "none, or addresses such as broker-1.example:9190, separated by commas".to_owned(),
        }
    }

    /// The name of the type on the reference page and in the flag's help.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text | Self::Choice(_) => "text",
            Self::Path => "path",
            Self::Boolean => "boolean",
            Self::Integer { .. } => "integer",
            Self::Bytes { .. } | Self::Pages { .. } | Self::BytesMax => "bytes",
            Self::Duration { .. } => "duration",
            Self::Milliseconds { .. } | Self::MillisecondsMax => "milliseconds",
            Self::Listeners => "listeners",
            Self::Listener => "listener",
            Self::Addresses => "addresses",
        }
    }

    /// The value in the form in which it is shown to people.
    pub(crate) fn show(self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Text(text)) => text.clone(),
            (_, Value::Path(path)) => path.display().to_string(),
            (_, Value::Boolean(boolean)) => boolean.to_string(),
            (_, Value::Number(number)) => number.to_string(),
            (_, Value::Limit(None)) => UNLIMITED.to_owned(),
            (_, Value::Limit(Some(limit))) => limit.to_string(),
            (_, Value::Bytes(bytes)) => ByteSize(*bytes).to_string(),
            (Self::Milliseconds { .. }, Value::Duration(duration)) => duration.as_millis().to_string(),
            (_, Value::Duration(duration)) => HumanDuration(*duration).to_string(),
            (Self::Listener, Value::Listeners(listeners)) if listeners.is_empty() => NONE.to_owned(),
            (Self::Listener, Value::Listeners(listeners)) => listeners.iter().map(ListenerSpec::unnamed).collect(),
            (_, Value::Addresses(addresses)) if addresses.is_empty() => NONE.to_owned(),
            (_, Value::Addresses(addresses)) => {
                addresses.iter().map(|(host, port)| listener::join(host, *port)).collect::<Vec<_>>().join(",")
            }
            (_, Value::Listeners(listeners)) => listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

fn duration_ms(text: &str) -> Option<u64> {
    let duration: HumanDuration = text.parse().ok()?;
    u64::try_from(duration.0.as_millis()).ok()
}

fn show_ms(ms: u64) -> String {
    HumanDuration(Duration::from_millis(ms)).to_string()
}

/// A checked value for every key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values(pub(crate) BTreeMap<&'static str, Value>);

impl Values {
    pub(crate) fn value(&self, name: &'static str) -> &Value {
        self.0.get(name).expect("every key of the table has a value")
    }
}

/// Takes a value out as the type of a field of the settings.
///
/// The table pairs each field's type with a kind; a pair that does not fit fails the test that reads all defaults.
pub(crate) trait FromValue: Sized {
    fn from_value(value: &Value) -> Self;
}

macro_rules! from_value {
    ($($type:ty: $($pattern:pat => $value:expr),+;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Self {
                match value {
                    $($pattern => $value,)+
                    other => unreachable!("a key of another kind holds {other:?}"),
                }
            }
        }
    )*};
}

from_value! {
    String: Value::Text(text) => text.clone();
    PathBuf: Value::Path(path) => path.clone();
    bool: Value::Boolean(boolean) => *boolean;
    u64: Value::Number(number) => *number, Value::Bytes(bytes) => *bytes;
    Option<u64>: Value::Limit(limit) => *limit;
    Duration: Value::Duration(duration) => *duration;
    Vec<ListenerSpec>: Value::Listeners(listeners) => listeners.clone();
    Vec<(String, u16)>: Value::Addresses(addresses) => addresses.clone();
}
