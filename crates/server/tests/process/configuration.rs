//! What the process does with its configuration: bad ones start nothing, and say why.

use std::fs;

use crate::common::{rosettamq, run};

/// The command ends with code 2, says all that is expected, and has made no data directory.
#[track_caller]
fn check_refused(arguments: &[&str], expected: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let data_dir = home.path().join("data");
    let mut command = rosettamq(arguments);
    let output = command.arg("--data-dir").arg(&data_dir).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for text in expected {
        assert!(stderr.contains(text), "{stderr:?} does not say {text:?}");
    }
    assert!(!data_dir.exists());
}

#[test]
fn a_value_out_of_bounds_starts_nothing() {
    check_refused(&["--segment-bytes", "1KiB"], &["segment_bytes", "1KiB", "from 4MiB to 1GiB", "--segment-bytes"]);
    check_refused(&["--kafka-listeners", "0.0.0.0:9092"], &["kafka.listeners", "wildcard"]);
    check_refused(&["--log-format", "xml"], &["xml", "human", "json"]);
}

#[test]
fn an_unknown_key_starts_nothing_and_suggests_the_near_one() {
    check_refused(&["--segment-byte", "8MiB"], &["--segment-byte", "--segment-bytes"]);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("r.toml");
    fs::write(&file, "[kafka]\nnum.partition = 3\n").unwrap();
    check_refused(
        &["--config", file.to_str().unwrap()],
        &["kafka.num.partition", "r.toml", "did you mean kafka.num.partitions?"],
    );
    check_refused(&["--config", "/does/not/exist.toml"], &["/does/not/exist.toml", "cannot be read"]);
}

#[test]
fn an_unknown_variable_starts_nothing() {
    let output = rosettamq(&["--check"]).env("ROSETTAMQ_SHARD", "2").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("did you mean ROSETTAMQ_SHARDS?"));
}

#[test]
fn check_prints_what_holds_and_starts_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut command = rosettamq(&["--check", "--shards", "3"]);
    command.env("ROSETTAMQ_SEGMENT_BYTES", "8MiB").current_dir(home.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let page = String::from_utf8(output.stdout).unwrap();
    for text in ["shards = \"3\"", "flag --shards", "segment_bytes = \"8MiB\"", "ROSETTAMQ_SEGMENT_BYTES", "# default"]
    {
        assert!(page.contains(text), "{page}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn what_check_prints_is_itself_a_configuration() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("r.toml");
    let first = run(&["--check"]);
    fs::write(&file, &first.stdout).unwrap();
    let second = run(&["--check", "--config", file.to_str().unwrap()]);
    assert_eq!(second.code, Some(0), "{}", second.stderr);
}

#[test]
fn help_and_completions_name_every_key() {
    let help = run(&["--help"]).stdout;
    let script = run(&["completion", "bash"]).stdout;
    for flag in ["--data-dir", "--kafka-listeners", "--kafka-num-partitions", "--log-level"] {
        assert!(help.contains(flag) && script.contains(flag), "{flag}");
    }
}
