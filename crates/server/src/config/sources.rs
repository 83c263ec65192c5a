//! Reads the file, the environment and the flags, and settles which value of a key holds.
//!
//! A flag stands above an environment variable, that above the file, that above the default. Every value that was
//! written is checked, also one that another source overrides: a fault never lies in wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Fault, Problem, Source};
use super::keys::{self, KEYS, Key, Preset, Settings, VARIABLE_PREFIX};
use super::listener::{DEFAULT_NAME, ListenerSpec, check_list};
use super::value::{Kind, Value, Values};
use crate::machine::Machine;

/// All that a configuration is made of.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// The path and the text of the file.
    pub(crate) file: Option<(PathBuf, String)>,
    /// The process's environment; other programs' variables are passed over.
    pub(crate) variables: Vec<(String, String)>,
    /// Keys and values given as flags.
    pub(crate) flags: Vec<(&'static str, String)>,
}

/// The configuration that holds, and where each value comes from.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) settings: Settings,
    pub(crate) values: Values,
    pub(crate) sources: BTreeMap<&'static str, Source>,
}

/// Variables with the prefix that are no keys: the configuration file, and the addresses that commands connect to.
const OTHER_VARIABLES: [&str; 3] = ["ROSETTAMQ_CONFIG", "ROSETTAMQ_BOOTSTRAP", "ROSETTAMQ_NODE"];

impl Configuration {
    pub(crate) fn resolve(inputs: &Inputs, machine: &Machine) -> Result<Self, ConfigError> {
        let mut collected = Collected::default();
        collected.defaults(machine);
        if let Some((path, text)) = &inputs.file {
            collected.file(path, text)?;
        }
        collected.variables(&inputs.variables);
        for (name, text) in &inputs.flags {
            let key = keys::find(name).expect("flags are made from the table");
            collected.put(key, Source::Flag(key.flag()), key.kind.parse(text));
        }
        collected.finish()
    }
}

#[derive(Default)]
struct Collected {
    values: Values,
    sources: BTreeMap<&'static str, Source>,
    faults: Vec<Fault>,
}

impl Collected {
    fn put(&mut self, key: &'static Key, source: Source, value: Result<Value, Problem>) {
        match value {
            Ok(value) => {
                self.values.0.insert(key.name, value);
                self.sources.insert(key.name, source);
            }
            Err(problem) => self.fault(key.name, source, problem),
        }
    }

    fn fault(&mut self, key: &str, source: Source, problem: Problem) {
        self.faults.push(Fault { key: key.to_owned(), source, problem });
    }

    fn defaults(&mut self, machine: &Machine) {
        for key in KEYS {
            let text = match key.default {
                Preset::Fixed(text) => text.to_owned(),
                Preset::Computed { value, .. } => value(machine),
            };
            self.put(key, Source::Default, key.kind.parse(&text));
        }
    }

    fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })?;
        self.table(path, "", &table);
        Ok(())
    }

    /// Dotted keys, quoted or not, and tables mean the same: only the joined path counts.
    fn table(&mut self, path: &Path, prefix: &str, table: &toml::Table) {
        for (name, value) in table {
            let full = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let source = Source::File(path.to_owned());
            match (keys::find(&full), value) {
                (Some(key), value) => self.put(key, source, from_toml(key.kind, value)),
                // The leaves are what was meant as keys, whether such a table exists or not.
                (None, toml::Value::Table(inner)) if is_prefix(&full) || !inner.is_empty() => {
                    self.table(path, &full, inner);
                }
                (None, _) => {
                    let near = near_miss(&full, KEYS.iter().map(|key| key.name.to_owned()));
                    self.fault(&full, source, Problem::Unknown { near });
                }
            }
        }
    }

    fn variables(&mut self, variables: &[(String, String)]) {
        for (name, text) in variables {
            if !name.starts_with(VARIABLE_PREFIX) || OTHER_VARIABLES.contains(&name.as_str()) || is_service_link(name) {
                continue;
            }
            let source = Source::Variable(name.clone());
            match KEYS.iter().find(|key| key.variable() == *name) {
                Some(key) => self.put(key, source, key.kind.parse(text)),
                None => {
                    let near = near_miss(name, KEYS.iter().map(Key::variable));
                    self.fault(name, source, Problem::Unknown { near });
                }
            }
        }
    }

    fn finish(mut self) -> Result<Configuration, ConfigError> {
        if self.faults.is_empty() {
            let settings = Settings::from_values(&self.values);
            self.check_together(&settings);
            if self.faults.is_empty() {
                return Ok(Configuration { settings, values: self.values, sources: self.sources });
            }
        }
        Err(ConfigError::Faults(self.faults))
    }

    /// What must hold between keys.
    fn check_together(&mut self, settings: &Settings) {
        let mut conflict = |name: &'static str, reason: &str| {
            let key = keys::find(name).expect("only keys of the table are compared");
            let value = key.kind.show(self.values.value(name));
            let source = self.sources[name].clone();
            self.faults.push(Fault {
                key: name.to_owned(),
                source,
                problem: Problem::Conflict { value, reason: reason.to_owned() },
            });
        };
        if settings.kafka_message_max_bytes > settings.message_bytes_max {
            conflict("kafka.message.max.bytes", "it must be at most message_bytes_max");
        }
        if settings.message_bytes_max > settings.memory_bytes_max / 4 {
            conflict("message_bytes_max", "it must be at most a quarter of memory_bytes_max");
        }
        if settings.kafka_group_min_session_timeout > settings.kafka_group_max_session_timeout {
            conflict("kafka.group.min.session.timeout.ms", "it must be at most kafka.group.max.session.timeout.ms");
        }
        if let Err(reason) = crate::logging::check_filter(&settings.log_level) {
            let source = self.sources["log_level"].clone();
            let value = settings.log_level.clone();
            self.fault("log_level", source, Problem::LogFilter { value, reason });
        }
    }
}

/// A value of the file, as the text that a flag would give.
fn from_toml(kind: Kind, value: &toml::Value) -> Result<Value, Problem> {
    let wrong_type = || Problem::Type { value: value.to_string(), allowed: kind.allowed() };
    match (kind, value) {
        (Kind::Listeners, toml::Value::Array(items)) => listeners_from_toml(items),
        (Kind::Addresses, toml::Value::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            kind.parse(&texts.ok_or_else(wrong_type)?.join(","))
        }
        (_, toml::Value::String(text)) => kind.parse(text),
        (Kind::Boolean, toml::Value::Boolean(boolean)) => kind.parse(&boolean.to_string()),
        (
            Kind::Integer { .. }
            | Kind::Bytes { .. }
            | Kind::Pages { .. }
            | Kind::Milliseconds { .. }
            | Kind::MillisecondsMax
            | Kind::BytesMax,
            toml::Value::Integer(number),
        ) => kind.parse(&number.to_string()),
        _ => Err(wrong_type()),
    }
}

fn listeners_from_toml(items: &[toml::Value]) -> Result<Value, Problem> {
    let mut listeners = Vec::with_capacity(items.len());
    for item in items {
        match item {
            toml::Value::String(text) => {
                let Value::Listeners(more) = Kind::Listeners.parse(text)? else {
                    unreachable!("listeners parse to listeners");
                };
                listeners.extend(more);
            }
            toml::Value::Table(table) => listeners.push(listener_from_table(table)?),
            other => {
                return Err(Problem::Type {
                    value: other.to_string(),
                    allowed: "texts, or tables with name, address and advertised".to_owned(),
                });
            }
        }
    }
    check_list(&listeners)
        .map_err(|source| Problem::Listener { value: toml::Value::Array(items.to_vec()).to_string(), source })?;
    Ok(Value::Listeners(listeners))
}

fn listener_from_table(table: &toml::Table) -> Result<ListenerSpec, Problem> {
    const FIELDS: [&str; 3] = ["name", "address", "advertised"];
    let mut fields = BTreeMap::new();
    for (name, value) in table {
        match value {
            toml::Value::String(text) if FIELDS.contains(&name.as_str()) => {
                fields.insert(name.as_str(), text.as_str());
            }
            _ => {
                return Err(Problem::Type {
                    value: format!("{name} = {value}"),
                    allowed: "the texts name, address and advertised".to_owned(),
                });
            }
        }
    }
    let Some(address) = fields.get("address") else {
        return Err(Problem::Type {
            value: table.to_string().trim().replace('\n', ", "),
            allowed: "a table with at least address".to_owned(),
        });
    };
    let name = fields.get("name").copied().unwrap_or(DEFAULT_NAME);
    ListenerSpec::from_parts(name, address, fields.get("advertised").copied())
        .map_err(|source| Problem::Listener { value: (*address).to_owned(), source })
}

fn is_prefix(path: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Kubernetes sets such variables for every service of the namespace; one named `rosettamq` must not break the start.
fn is_service_link(name: &str) -> bool {
    let rest = &name[VARIABLE_PREFIX.len()..];
    rest == "PORT" || rest.starts_with("PORT_") || rest.ends_with("SERVICE_HOST") || rest.contains("SERVICE_PORT")
}

/// The candidate that a typing error most likely meant.
fn near_miss(written: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let written = written.to_lowercase();
    candidates
        .map(|candidate| {
            let lower = candidate.to_lowercase();
            let mut steps = distance(&written, &lower);
            // A key whose section was left out is near, whatever the section's length.
            if lower.ends_with(&format!(".{written}")) {
                steps = steps.min(1);
            }
            (steps, candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 4).max(2))
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, remove, replace, swap of neighbours) that lead from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}
