//! What `--check` prints: every key with the value that holds and where it comes from.

use std::fmt::Write as _;

use super::keys::{KEYS, Section};
use super::sources::Configuration;

/// The effective configuration for a reader, as lines of TOML whose comments name the sources.
pub(crate) fn explain(configuration: &Configuration) -> String {
    let mut page = String::from("# The configuration is valid. These values hold:\n");
    for section in Section::ALL {
        let _ = write!(page, "\n# {}\n", section.title());
        for key in KEYS.iter().filter(|key| key.section == section) {
            let value = key.kind.show(configuration.values.value(key.name));
            let line = format!("{} = {}", key.in_file(), toml::Value::String(value));
            let _ = writeln!(page, "{line:<64} # {}", configuration.sources[key.name]);
        }
    }
    page
}
