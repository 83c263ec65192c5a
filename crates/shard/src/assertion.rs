//! Assertions inside `apply`. One that fails must take its shard out of service and leave the others serving, so it is
//! an error that travels to the boundary of `apply`, not a panic that would take a thread or the process with it. A
//! panic that happens nevertheless (an index out of bounds, say) is caught at the same boundary and told the same way.

use record::LogIndex;

/// Something that must not be possible was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) what: String,
}

/// Returns from the function with [`Broken`] if the condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::assertion::Broken { what: format!($($what)+) });
        }
    };
}
pub(crate) use ensure;

/// The state of this shard cannot be trusted any more: it must answer nothing and apply nothing from here on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("assertion failed in shard at log index {index}, command {command}: {what}")]
pub struct AssertionFailed {
    pub index: LogIndex,
    /// Place and name of the command in its entry.
    pub command: String,
    pub what: String,
}
