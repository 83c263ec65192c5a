//! Every key's default, precedence of sources, and what an error says.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::keys::{KEYS, Key, VARIABLE_PREFIX};
use super::sources::{Configuration, Inputs};
use super::{explain, reference};
use crate::machine::Machine;

const MACHINE: Machine = Machine { cores: 4, memory_bytes: 8 << 30 };

fn resolve(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Configuration, String> {
    let inputs = Inputs {
        file: (!file.is_empty()).then(|| (PathBuf::from("r.toml"), file.to_owned())),
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    };
    Configuration::resolve(&inputs, &MACHINE).map_err(|error| error.to_string())
}

/// The error of a file contains every expected text.
fn check_error(file: &str, expected: &[&str]) {
    let error = resolve(file, &[], &[]).expect_err(file);
    for text in expected {
        assert!(error.contains(text), "{file:?} gave {error:?}, without {text:?}");
    }
}

#[test]
fn defaults_are_valid_and_read_as_settings() {
    let configuration = resolve("", &[], &[]).unwrap();
    assert_eq!(configuration.settings.shards, 4);
    assert_eq!(configuration.settings.memory_bytes_max, 2 << 30);
    assert_eq!(configuration.settings.segment_bytes, 256 << 20);
    assert_eq!(configuration.settings.kafka_listeners[0].address(), "127.0.0.1:9092");
    assert_eq!(configuration.settings.kafka_connections_max_idle.as_secs(), 600);
}

#[test]
fn defaults_are_valid_on_the_smallest_and_the_largest_machine() {
    for (cores, memory_bytes) in [(1, 1 << 28), (4096, 1 << 45)] {
        let machine = Machine { cores, memory_bytes };
        Configuration::resolve(&Inputs::default(), &machine).unwrap();
    }
}

#[test]
fn every_key_has_its_own_flag_and_variable() {
    let flags: BTreeSet<_> = KEYS.iter().map(Key::flag).collect();
    let variables: BTreeSet<_> = KEYS.iter().map(Key::variable).collect();
    assert_eq!(flags.len(), KEYS.len());
    assert_eq!(variables.len(), KEYS.len());
    for own in ["config", "check", "help", "version"] {
        assert!(!flags.contains(own));
        assert!(!variables.contains(&format!("{VARIABLE_PREFIX}{}", own.to_uppercase())));
    }
    for key in KEYS {
        assert!(key.doc.ends_with('.'), "{}", key.name);
    }
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let file = "shards = 2\nsegment_bytes = 8388608\nreserve_bytes = '1GiB'\n";
    let variables = [("ROSETTAMQ_SHARDS", "3"), ("ROSETTAMQ_SEGMENT_BYTES", "16MiB"), ("HOME", "/root")];
    let configuration = resolve(file, &variables, &[("shards", "5")]).unwrap();
    assert_eq!(configuration.settings.shards, 5);
    assert_eq!(configuration.settings.segment_bytes, 16 << 20);
    assert_eq!(configuration.settings.reserve_bytes, 1 << 30);
    let page = explain::explain(&configuration);
    for text in
        ["shards = \"5\"", "# flag --shards", "# environment variable ROSETTAMQ_SEGMENT_BYTES", "# r.toml", "# default"]
    {
        assert!(page.contains(text), "{page}");
    }
}

#[test]
fn tables_dotted_keys_and_quoted_keys_mean_the_same() {
    for file in [
        "kafka.num.partitions = 7",
        "[kafka]\nnum.partitions = 7",
        "[kafka]\n'num.partitions' = 7",
        "[kafka.num]\npartitions = 7",
    ] {
        assert_eq!(resolve(file, &[], &[]).unwrap().settings.kafka_num_partitions, 7, "{file}");
    }
}

#[test]
fn minus_one_is_without_limit() {
    let limits = |file: &str| {
        let settings = resolve(file, &[], &[]).unwrap().settings;
        (settings.kafka_retention, settings.kafka_retention_bytes)
    };
    assert_eq!(limits(""), (Some(604_800_000), None));
    assert_eq!(limits("[kafka]\nlog.retention.ms = -1\nlog.retention.bytes = '1MiB'"), (None, Some(1 << 20)));
    assert_eq!(limits("[kafka]\nlog.retention.ms = '12h'\nlog.retention.bytes = 7"), (Some(43_200_000), Some(7)));
    for value in ["-2", "'soon'", "9223372036854775808", "true"] {
        check_error(&format!("kafka.log.retention.ms = {value}"), &["kafka.log.retention.ms"]);
    }
    check_error("kafka.log.retention.bytes = -2", &["kafka.log.retention.bytes", "-1 for no limit"]);
}

#[test]
fn listeners_are_texts_or_tables() {
    let tables = "[[kafka.listeners]]\nname='a'\naddress='127.0.0.1:1'\n[[kafka.listeners]]\nname='b'\naddress='[::]:2'\nadvertised='h:3'\n";
    let texts = "kafka.listeners = ['a=127.0.0.1:1', 'b=[::]:2@h:3']";
    let text = "kafka.listeners = 'a=127.0.0.1:1,b=[::]:2@h:3'";
    let listeners = resolve(tables, &[], &[]).unwrap().settings.kafka_listeners;
    assert_eq!(listeners, resolve(texts, &[], &[]).unwrap().settings.kafka_listeners);
    assert_eq!(listeners, resolve(text, &[], &[]).unwrap().settings.kafka_listeners);
    check_error("[[kafka.listeners]]\nname='a'", &["kafka.listeners", "at least address"]);
    check_error("[[kafka.listeners]]\naddres='h:1'", &["addres", "name, address and advertised"]);
    check_error("kafka.listeners = []", &["no listener is given"]);
}

#[test]
fn an_error_names_key_value_source_and_what_is_allowed() {
    check_error("segment_bytes = '5MB'", &["segment_bytes (r.toml)", "\"5MB\"", "a multiple of 4KiB"]);
    check_error("segment_bytes = '1KiB'", &["segment_bytes (r.toml)", "\"1KiB\"", "from 4MiB to 1GiB"]);
    check_error("shards = 0", &["shards (r.toml)", "\"0\"", "from 1 to 64"]);
    check_error("shards = true", &["shards", "true", "whole number"]);
    check_error("shards = -1", &["shards", "-1"]);
    check_error("log_format = 'xml'", &["log_format", "xml", "human or json"]);
    check_error("log_level = 'loud'", &["log_level", "loud", "error, warn, info"]);
    check_error("shutdown_timeout = 10", &["shutdown_timeout", "500ms or 10s"]);
    check_error("kafka.auto.create.topics.enable = 'yes'", &["true or false"]);
    check_error("kafka.listeners = '0.0.0.0:9092'", &["kafka.listeners", "wildcard", "@HOST"]);
    check_error("kafka.message.max.bytes = '64MiB'", &["kafka.message.max.bytes", "at most message_bytes_max"]);
    check_error("shards = ", &["r.toml is not TOML"]);
}

#[test]
fn an_unknown_key_is_an_error_with_the_nearest_name() {
    check_error(
        "[kafka]\nnum.partition = 1",
        &["kafka.num.partition (r.toml): there is no such key; did you mean kafka.num.partitions?"],
    );
    check_error("num.partitions = 1", &["did you mean kafka.num.partitions?"]);
    check_error("sgement_bytes = 1", &["did you mean segment_bytes?"]);
    check_error("quite_another_thing = 1", &["quite_another_thing (r.toml): there is no such key"]);
    let error = resolve("", &[("ROSETTAMQ_SHARD", "1")], &[]).unwrap_err();
    assert!(error.contains("did you mean ROSETTAMQ_SHARDS?"), "{error}");
}

#[test]
fn all_faults_are_reported_together() {
    check_error("shards = 0\nsegment_bytes = 1\n", &["shards", "segment_bytes"]);
}

#[test]
fn a_value_that_another_source_overrides_is_still_checked() {
    let error = resolve("shards = 0", &[], &[("shards", "2")]).unwrap_err();
    assert!(error.contains("shards (r.toml)"), "{error}");
}

#[test]
fn variables_of_a_kubernetes_service_are_passed_over() {
    let variables = [
        ("ROSETTAMQ_SERVICE_HOST", "10.0.0.1"),
        ("ROSETTAMQ_SERVICE_PORT", "9092"),
        ("ROSETTAMQ_SERVICE_PORT_KAFKA", "9092"),
        ("ROSETTAMQ_PORT", "tcp://10.0.0.1:9092"),
        ("ROSETTAMQ_PORT_9092_TCP_ADDR", "10.0.0.1"),
        ("ROSETTAMQ_KAFKA_SERVICE_HOST", "10.0.0.2"),
        ("ROSETTAMQ_CONFIG", "r.toml"),
        ("ROSETTAMQ_BOOTSTRAP", "127.0.0.1:9092"),
        ("ROSETTAMQ_NODE", "127.0.0.1:9190"),
    ];
    resolve("", &variables, &[]).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a file of the tree, not of a node")]
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_reference_page_in_the_tree_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let in_tree = read(path);
    assert!(in_tree == reference::page(), "docs/configuration.md is stale: run `cargo xtask docs`");
}
