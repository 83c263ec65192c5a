//! kcat, as Debian ships it: a million lines there and back, also through a kill -9.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::broker::{Broker, Settings};
use tests::{install, process};

const LIMIT: Duration = Duration::from_secs(180);

fn numbers(last: u32) -> Vec<u8> {
    let mut lines = String::new();
    for number in 1..=last {
        lines += &format!("{number}\n");
    }
    lines.into_bytes()
}

fn produce(kcat: &Path, broker: &Broker, arguments: &[&str], input: Vec<u8>) -> Result<()> {
    let mut command = Command::new(kcat);
    command.args(["-P", "-b", &broker.bootstrap()]).args(arguments);
    process::run_with_input(&mut command, input, LIMIT)?;
    Ok(())
}

fn consume(kcat: &Path, broker: &Broker, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new(kcat);
    command.args(["-C", "-b", &broker.bootstrap(), "-e", "-q"]).args(arguments);
    Ok(process::run(&mut command, LIMIT)?.stdout)
}

/// One partition, so that the order is that of the input.
fn one_partition() -> Result<Settings> {
    let mut settings = Settings::new()?;
    settings.partitions = 1;
    Ok(settings)
}

#[test]
fn a_million_lines_come_back_as_they_went() -> Result<()> {
    let Some(kcat) = install::kcat::installed()? else {
        return Ok(());
    };
    let mut broker = one_partition()?.start()?;
    let lines = numbers(1_000_000);
    produce(&kcat, &broker, &["-t", "t", "-z", "lz4"], lines.clone())?;
    ensure!(consume(&kcat, &broker, &["-t", "t"])? == lines, "what came back differs");
    broker.assert_healthy()
}

#[test]
fn a_million_lines_survive_kill_9() -> Result<()> {
    let Some(kcat) = install::kcat::installed()? else {
        return Ok(());
    };
    let mut broker = one_partition()?.start()?;
    let lines = numbers(1_000_000);
    produce(&kcat, &broker, &["-t", "t", "-z", "lz4"], lines.clone())?;
    broker.kill()?;
    broker.restart()?;
    ensure!(consume(&kcat, &broker, &["-t", "t"])? == lines, "what came back differs");
    broker.assert_healthy()
}

#[test]
fn every_compression_of_kcat_is_passed_through() -> Result<()> {
    let Some(kcat) = install::kcat::installed()? else {
        return Ok(());
    };
    let mut broker = one_partition()?.start()?;
    let lines = numbers(20_000);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        produce(&kcat, &broker, &["-t", &topic, "-z", codec], lines.clone())?;
        ensure!(consume(&kcat, &broker, &["-t", &topic])? == lines, "{codec}: what came back differs");
    }
    broker.assert_healthy()
}

#[test]
fn keys_headers_timestamps_and_offsets_are_shown() -> Result<()> {
    let Some(kcat) = install::kcat::installed()? else {
        return Ok(());
    };
    let broker = one_partition()?.start()?;
    produce(&kcat, &broker, &["-t", "t", "-K", ":", "-H", "name=header"], b"key:value\nother:again\n".to_vec())?;
    let shown = consume(&kcat, &broker, &["-t", "t", "-f", "%p %o %k %s %h\\n"])?;
    ensure!(
        shown == b"0 0 key value name=header\n0 1 other again name=header\n",
        "{}",
        String::from_utf8_lossy(&shown)
    );
    // From an offset, the last ones, and by time.
    ensure!(consume(&kcat, &broker, &["-t", "t", "-o", "1"])? == b"again\n");
    ensure!(consume(&kcat, &broker, &["-t", "t", "-o", "-1"])? == b"again\n");
    ensure!(consume(&kcat, &broker, &["-t", "t", "-o", "s@1000"])? == b"value\nagain\n");
    let mut query = Command::new(&kcat);
    query.args(["-Q", "-b", &broker.bootstrap(), "-t", "t:0:-1"]);
    ensure!(process::run(&mut query, LIMIT)?.text().contains("offset 2"), "the latest offset");
    Ok(())
}

#[test]
fn metadata_lists_broker_and_topics() -> Result<()> {
    let Some(kcat) = install::kcat::installed()? else {
        return Ok(());
    };
    let broker = one_partition()?.start()?;
    produce(&kcat, &broker, &["-t", "listed"], b"x\n".to_vec())?;
    let mut list = Command::new(&kcat);
    list.args(["-L", "-b", &broker.bootstrap()]);
    let text = process::run(&mut list, LIMIT)?.text();
    ensure!(text.contains(&format!("at {}", broker.bootstrap())), "{text}");
    ensure!(text.contains("topic \"listed\" with 1 partitions"), "{text}");
    Ok(())
}

#[test]
fn a_group_goes_on_where_it_stopped() -> Result<()> {
    let Some(kcat) = install::kcat::installed()? else {
        return Ok(());
    };
    let mut broker = one_partition()?.start()?;
    produce(&kcat, &broker, &["-t", "t"], b"one\ntwo\n".to_vec())?;
    let group = |broker: &Broker| -> Result<Vec<u8>> {
        let mut command = Command::new(&kcat);
        command.args(["-b", &broker.bootstrap(), "-q", "-e", "-X", "auto.offset.reset=earliest"]);
        command.args(["-G", "group", "t"]);
        Ok(process::run(&mut command, LIMIT)?.stdout)
    };
    ensure!(group(&broker)? == b"one\ntwo\n", "the first two");
    produce(&kcat, &broker, &["-t", "t"], b"three\n".to_vec())?;
    broker.kill()?;
    broker.restart()?;
    ensure!(group(&broker)? == b"three\n", "only what is new");
    broker.assert_healthy()
}
