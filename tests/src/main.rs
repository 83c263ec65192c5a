//! Installs the clients ahead of a test run, or tries any broker with them.
//!
//! `clients install` installs all; `clients check SERVERS [CLIENT ...]` runs the client programs against a broker
//! that is there already.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Result, bail};
use tests::clients::Client;
use tests::install;
use tests::toolchain;

const USAGE: &str = "usage: clients install | clients check SERVERS [CLIENT ...]";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["install"] => install_all().map(|()| ExitCode::SUCCESS),
        ["check", servers, wanted @ ..] => check(servers, wanted),
        _ => bail!(USAGE),
    }
}

fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

fn install_all() -> Result<()> {
    for client in Client::ALL {
        if client.is_available()? {
            client.command()?;
            say(&format!("installed {client:?}"))?;
        }
    }
    for (name, found) in [
        ("kcat", install::kcat::installed()?),
        ("strace", install::strace::installed()?),
        ("iproute2", install::iproute::installed()?),
    ] {
        say(&format!("{name}: {found:?}"))?;
    }
    if toolchain::require("librdkafka's programs", &["cc", "c++", "make"])? {
        install::librdkafka::installed()?;
        install::librdkafka::with_tests()?;
        say("installed librdkafka's programs")?;
    }
    Ok(())
}

fn check(servers: &str, wanted: &[&str]) -> Result<ExitCode> {
    let mut failed = false;
    for client in Client::ALL {
        let name = format!("{client:?}");
        if !wanted.is_empty() && !wanted.contains(&name.as_str()) {
            continue;
        }
        let prefix = format!("check-{}", std::process::id());
        let status = client.command()?.args([servers, prefix.as_str()]).status()?;
        say(&format!("{name}: {status}"))?;
        failed |= !status.success();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
