//! The binary `rosettamq` under test.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::{Settings, write_file};
use crate::{places, process};

/// The binary: the one that `TEST_BINARY` names, else built by cargo in the profile of the running test.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(named) = env::var_os("TEST_BINARY") {
        return Ok(PathBuf::from(named));
    }
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(|error| anyhow!(error))
}

fn build() -> Result<PathBuf> {
    let release = !cfg!(debug_assertions);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(places::workspace()).args(["build", "--quiet", "--package", "server", "--bin", "rosettamq"]);
    cargo.arg("--target-dir").arg(places::target());
    if release {
        cargo.arg("--release");
    }
    process::run(&mut cargo, Duration::from_secs(1800)).context("building the broker under test")?;
    Ok(places::target().join(if release { "release" } else { "debug" }).join("rosettamq"))
}

/// The command that runs the broker with a configuration file written from `settings`.
pub(super) fn command(settings: &Settings, home: &Path, port: u16) -> Result<Command> {
    let file = home.join("rosettamq.toml");
    write_file(&file, &configuration(settings, home, port))?;
    let program = settings.program.clone().map_or_else(binary, Ok)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(file);
    Ok(command)
}

fn configuration(settings: &Settings, home: &Path, port: u16) -> String {
    let mut lines = vec![
        format!("data_dir = {:?}", home.join("data")),
        format!("kafka.num.partitions = {}", settings.partitions),
        format!("kafka.group.initial.rebalance.delay.ms = {}", settings.group_initial_rebalance_delay_ms),
    ];
    if let Some(idle) = settings.connections_idle_ms {
        lines.push(format!("kafka.connections.max.idle.ms = {idle}"));
    }
    if let Some(max) = settings.connections_max {
        lines.push(format!("kafka.max.connections = {max}"));
    }
    if let Some(bytes) = settings.segment_bytes {
        lines.push(format!("segment_bytes = \"{bytes}\""));
    }
    if let Some(bytes) = settings.memory_bytes {
        lines.push(format!("memory_bytes_max = \"{bytes}\""));
    }
    if let Some(bytes) = settings.disk_reserve_bytes {
        lines.push(format!("reserve_bytes = \"{bytes}\""));
    }
    lines.extend(settings.properties.iter().map(|(key, value)| format!("{key} = {value}")));
    let mut text = lines.join("\n") + "\n";
    let mut listener = |name: &str, address: &str, advertised: &str| {
        let _infallible = write!(
            text,
            "\n[[kafka.listeners]]\nname = {name:?}\naddress = {address:?}\nadvertised = {advertised:?}\n"
        );
    };
    listener("default", &format!("127.0.0.1:{port}"), &format!("127.0.0.1:{port}"));
    for extra in &settings.listeners {
        listener(&extra.name, &extra.address, &extra.advertised);
    }
    text
}
