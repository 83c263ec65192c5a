//! One key of the table.

use crate::configs::ValueKind;

/// A key that can be configured.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: ValueKind,
    /// `None`: no value unless one is set.
    pub(crate) default: Option<&'static str>,
    pub(crate) check: Check,
    pub(crate) documentation: &'static str,
    /// For a topic's key: the broker's key that is its default.
    pub(crate) broker_key: Option<&'static str>,
    /// Further broker keys that are its default when `broker_key` is not set, with the factor that turns their unit
    /// into the key's.
    pub(crate) fallbacks: &'static [(&'static str, i64)],
    /// Whether the value does what it says.
    pub(crate) applied: bool,
}

impl Key {
    /// Passwords are never shown.
    pub(crate) fn sensitive(&self) -> bool {
        self.kind == ValueKind::Password
    }
}

/// Which values of the key's type are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// The range, or one value outside of it.
    BetweenOr(i64, i64, i64),
    /// From 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    ListOf(&'static [&'static str]),
    /// `*` or a list of `partition:broker`.
    ThrottledReplicas,
}

/// Rows of broker keys: name, type, default, check, documentation.
macro_rules! keys {
    ($($name:literal, $kind:ident, $default:expr, $check:expr, $documentation:expr;)*) => {
        &[$($crate::configs::table::key::Key {
            name: $name,
            kind: $kind,
            default: $default,
            check: $check,
            documentation: $documentation,
            broker_key: None,
            fallbacks: &[],
            applied: true,
        }),*]
    };
}
pub(super) use keys;
