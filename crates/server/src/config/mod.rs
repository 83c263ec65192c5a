//! Configuration: one table of keys; a file, the environment and flags that set them; errors that say what is allowed.
//!
//! Nothing is started before every value is known to be valid.

pub(crate) mod error;
pub(crate) mod explain;
pub(crate) mod keys;
pub(crate) mod listener;
pub(crate) mod reference;
pub(crate) mod sources;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::path::{Path, PathBuf};

use crate::cli::Cli;
use crate::machine::Machine;
use error::ConfigError;
use sources::{Configuration, Inputs};

/// Names the configuration file where `--config` does not.
const FILE_VARIABLE: &str = "ROSETTAMQ_CONFIG";

/// Reads all sources of this process and settles the configuration.
pub(crate) fn load(cli: &Cli) -> Result<Configuration, ConfigError> {
    let named = std::env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty());
    let path = cli.server.config.clone().or_else(|| named.map(PathBuf::from));
    let file = match path {
        Some(path) => Some((path.clone(), read(&path)?)),
        None => None,
    };
    // A variable that is no Unicode cannot have a valid value; its lossy form is refused like any other.
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let inputs = Inputs {
        file,
        variables: std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(),
        flags: cli.keys.clone(),
    };
    Configuration::resolve(&inputs, &Machine::detect())
}

#[expect(clippy::disallowed_methods, reason = "read before there is a node, whose disk a simulator may own")]
fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}
