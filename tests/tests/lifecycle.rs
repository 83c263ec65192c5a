//! Start, stop, two processes on one folder, and configurations that cannot be.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::broker::{Broker, Peer, Settings, free_port, rosettamq_binary};
use tests::process::{self, Finished};
use tests::wire::requests::{self, PRODUCE, PRODUCE_VERSION, produce_answer, produce_body};
use tests::wire::{Batch, Connection};

fn ours() -> Settings {
    Settings::of(Peer::Rosettamq)
}

/// Runs the binary to its end.
fn run(arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new(rosettamq_binary()?);
    process::finish(command.args(arguments), None, Duration::from_secs(30))
}

fn produce(broker: &Broker, value: &[u8]) -> Result<()> {
    let body = produce_body("t", 0, -1, 10_000, &Batch::of(vec![value.to_vec()]).build());
    let answer = produce_answer(&Connection::open(broker.address())?.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
    ensure!(answer.error == 0, "error {}", answer.error);
    Ok(())
}

#[test]
fn sigterm_stops_clean_and_nothing_is_lost() -> Result<()> {
    let mut broker = ours().start()?;
    ensure!(requests::create_topic(&mut Connection::open(broker.address())?, "t", 1, &[])? == 0);
    for number in 0..5 {
        produce(&broker, format!("value {number}").as_bytes())?;
        let status = broker.stop()?;
        ensure!(status.success(), "SIGTERM ended with {status}\n{}", broker.log_tail());
        broker.restart()?;
        let read = requests::read_all(&mut Connection::open(broker.address())?, "t", 0, 0)?;
        ensure!(read.len() == number + 1, "{} records after stop {number}", read.len());
    }
    broker.assert_healthy()
}

#[test]
fn a_second_process_on_the_same_folder_is_told_so() -> Result<()> {
    let mut broker = ours().start()?;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, format!("data_dir = {:?}\nkafka.listeners = \"second=127.0.0.1:0\"\n", broker.data()))?;
    let second = run(&["--config", &file.path().display().to_string()])?;
    ensure!(!second.status.success(), "a second process started");
    let said = second.tail();
    ensure!(said.contains(&broker.data().display().to_string()), "the message does not name the folder: {said}");
    ensure!(said.contains("in use") || said.contains("another process") || said.contains("lock"), "{said}");
    broker.assert_healthy()
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let mut broker = ours().start()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("second.toml");
    let text =
        format!("data_dir = {:?}\nkafka.listeners = \"second={}\"\n", folder.path().join("data"), broker.bootstrap());
    fs::write(&file, text)?;
    let second = run(&["--config", &file.display().to_string()])?;
    ensure!(!second.status.success(), "two processes listen on one port");
    ensure!(second.tail().contains(&broker.bootstrap()), "the message does not name the address: {}", second.tail());
    broker.assert_healthy()
}

#[test]
fn bad_configurations_name_key_value_and_what_is_allowed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let cases = [
        ("segment_bytes = \"1KiB\"", "segment_bytes", "4MiB"),
        ("memory_bytes_max = \"lots\"", "memory_bytes_max", "lots"),
        ("log_format = \"xml\"", "log_format", "json"),
        ("kafka.num.partitions = 0", "num.partitions", "0"),
        ("kafka.listeners = \"nonsense\"", "listeners", "nonsense"),
        ("no_such_key = 1", "no_such_key", "no_such_key"),
    ];
    for (number, (line, key, value)) in cases.into_iter().enumerate() {
        let file = folder.path().join(format!("{number}.toml"));
        fs::write(&file, format!("data_dir = {data:?}\n{line}\n"))?;
        for arguments in [vec!["--config"], vec!["--check", "--config"]] {
            let path = file.display().to_string();
            let finished = run(&[&arguments[..], &[&path]].concat())?;
            let said = finished.tail();
            ensure!(!finished.status.success(), "{line} was taken");
            ensure!(said.contains(key) && said.contains(value), "{line}: {said}");
        }
        ensure!(!data.exists(), "{line}: something was started all the same");
    }
    Ok(())
}

#[test]
fn check_tells_that_a_configuration_is_good() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("good.toml");
    let text =
        format!("data_dir = {:?}\nkafka.listeners = \"a=127.0.0.1:{}\"\n", folder.path().join("d"), free_port()?);
    fs::write(&file, text)?;
    let finished = run(&["--check", "--config", &file.display().to_string()])?;
    ensure!(finished.status.success(), "{}", finished.tail());
    ensure!(!folder.path().join("d").exists(), "--check started something");
    Ok(())
}

#[test]
fn log_inspect_works_beside_a_running_broker_and_changes_nothing() -> Result<()> {
    let mut broker = ours().start()?;
    ensure!(requests::create_topic(&mut Connection::open(broker.address())?, "t", 1, &[])? == 0);
    produce(&broker, b"looked at")?;
    let data = broker.data().display().to_string();
    let beside = run(&["log", "inspect", &data])?;
    ensure!(beside.status.success() && !beside.stdout.is_empty(), "{}", beside.tail());
    broker.stop()?;
    let digest = || -> Result<Vec<u8>> {
        let script = "find . -type f -print0 | sort -z | xargs -0 sha256sum";
        let mut sums = Command::new("sh");
        sums.current_dir(broker.data()).args(["-c", script]);
        Ok(process::run(&mut sums, Duration::from_secs(60))?.stdout)
    };
    let before = digest()?;
    let alone = run(&["log", "inspect", &data])?;
    ensure!(alone.status.success(), "{}", alone.tail());
    ensure!(digest()? == before, "inspecting changed the data folder");
    Ok(())
}
