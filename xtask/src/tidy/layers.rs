//! A crate uses only crates of lower layers, and leaves alone what is not its business.

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::Fault;
use crate::tree::File;

/// Every crate of the workspace with its layer. A crate uses only crates whose number is smaller.
const LAYERS: [(&str, u32); 14] = [
    // Stands in for a dependency of a dependency.
    ("base2histogram", 0),
    ("base", 0),
    ("record", 0),
    ("storage", 1),
    ("shard", 1),
    ("replica", 2),
    ("cluster", 3),
    ("broker", 4),
    ("kafka", 5),
    ("server", 6),
    ("sim", 6),
    // What nothing is built on.
    ("tests", 7),
    ("benches", 8),
    ("xtask", 8),
];

/// What each crate must do without, and why.
const ABSENT: [(&str, &[&str], &str); 5] = [
    ("record", &["tokio", "serde"], "it is bytes and numbers"),
    ("shard", &["tokio", "rand", "rustix", "libc"], "it is pure: no clock, no chance, no input or output"),
    ("storage", &["openraft"], "it knows no consensus library"),
    ("cluster", &["kafka-protocol"], "it knows no protocol"),
    ("broker", &["kafka-protocol", "openraft"], "it knows no protocol and no consensus library"),
];

pub(super) fn check(files: &[File]) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| is_manifest(&file.path)) {
        let manifest: Table = toml::from_str(&file.text).with_context(|| format!("{} is not TOML", file.path))?;
        check_manifest(&file.path, &manifest, &mut faults);
    }
    Ok(faults)
}

fn is_manifest(path: &str) -> bool {
    path.ends_with("/Cargo.toml") && !path.starts_with("fuzz/")
}

fn check_manifest(path: &str, manifest: &Table, faults: &mut Vec<Fault>) {
    let mut fault = |text: String| faults.push(Fault(format!("{path}: {text}")));
    let name = manifest.get("package").and_then(|package| package.get("name"));
    let Some(name) = name.and_then(Value::as_str) else {
        return fault("the package has no name".to_owned());
    };
    let Some(layer) = layer(name) else {
        return fault(format!("{name} is not in the table of layers in xtask"));
    };
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(used) = manifest.get(section).and_then(Value::as_table) else {
            continue;
        };
        for used in used.keys() {
            let uses_higher = self::layer(used).is_some_and(|other| other >= layer);
            // A crate may test itself through a crate beside it.
            if uses_higher && !(section == "dev-dependencies" && self::layer(used) == Some(layer)) {
                fault(format!("{name} is in layer {layer} and must not use {used}"));
            }
            for (absent_in, absent, why) in ABSENT {
                if section == "dependencies" && absent_in == name && absent.contains(&used.as_str()) {
                    fault(format!("{name} must not use {used}: {why}"));
                }
            }
        }
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints != Some(&Value::Boolean(true)) {
        fault("the lints of the workspace do not apply: add [lints] workspace = true".to_owned());
    }
}

fn layer(name: &str) -> Option<u32> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<Fault> {
        let text = format!("[package]\n{text}\n[lints]\nworkspace = true\n");
        let file = File { path: "crates/x/Cargo.toml".to_owned(), text };
        check(&[file]).unwrap()
    }

    #[test]
    fn a_crate_uses_only_lower_layers() {
        assert_eq!(faults("name='broker'\n[dependencies]\ncluster.workspace=true\ntokio='1'"), []);
        assert_eq!(faults("name='shard'\n[dependencies]\nstorage.workspace=true").len(), 1);
        assert_eq!(faults("name='base'\n[dependencies]\nbroker.workspace=true").len(), 1);
        assert_eq!(faults("name='base'\n[dev-dependencies]\nbroker.workspace=true").len(), 1);
        assert_eq!(faults("name='storage'\n[dev-dependencies]\nshard.workspace=true"), []);
        assert_eq!(faults("name='stranger'").len(), 1);
    }

    #[test]
    fn a_crate_leaves_alone_what_it_must_not_know() {
        assert_eq!(faults("name='broker'\n[dependencies]\nkafka-protocol='1'").len(), 1);
        assert_eq!(faults("name='shard'\n[dependencies]\ntokio='1'").len(), 1);
        assert_eq!(faults("name='shard'\n[dev-dependencies]\ntokio='1'"), []);
    }
}
