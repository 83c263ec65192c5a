//! What is wrong with a configuration: every fault names the key, its value, where it was written and what is allowed.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::listener::ListenerError;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag --{flag}"),
        }
    }
}

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Problem {
    #[error("{value:?} is not {allowed}")]
    Refused { value: String, allowed: String },
    #[error("{value:?}: {source}")]
    Listener { value: String, source: ListenerError },
    #[error("{value} is of the wrong type; it takes {allowed}")]
    Type { value: String, allowed: String },
    #[error("there is no such key{}", suggestion(.near))]
    Unknown { near: Option<String> },
    #[error("{value:?}: {reason}")]
    Conflict { value: String, reason: String },
    #[error("{value:?} is not a log filter: {reason}")]
    LogFilter { value: String, reason: String },
}

fn suggestion(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The key as it was written.
    pub(crate) key: String,
    pub(crate) source: Source,
    pub(crate) problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.key, self.source, self.problem)
    }
}

/// Why there is no configuration; nothing was started.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {} is not TOML: {source}", path.display())]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("the configuration is not valid; nothing was started{}", lines(.0))]
    Faults(Vec<Fault>),
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}
