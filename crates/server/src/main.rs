//! The binary `rosettamq`: composes the crates below into one broker, and is its command line.
//!
//! It decides nothing about messages: it reads the configuration, starts what is below in order, and stops it in the
//! opposite order. The client commands use the Kafka protocol like any other client and nothing of the broker.

mod cli;
mod client;
mod config;
mod digest;
mod inspect;
mod logging;
mod machine;
mod process;
mod server;

use std::process::ExitCode;

use anyhow::Context as _;

use cli::{Command, LogArgs, LogCommand};
use client::print;

/// Returns freed memory to the system and serves many threads well; the default allocator does neither here.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The start failed, or the broker had to stop.
const FAILED: u8 = 1;
/// The configuration or the command line is not valid; nothing was started. Also clap's code.
const INVALID: u8 = 2;

fn main() -> ExitCode {
    let cli = cli::parse();
    let result = match cli.command {
        None => return server::main(&cli),
        Some(command) => run_command(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn run_command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Log(LogArgs { command: LogCommand::Inspect { directory, entries } }) => {
            inspect::run(&directory, entries)
        }
        Command::Log(LogArgs { command: LogCommand::Verify { directory } }) => inspect::verify(&directory),
        Command::Log(LogArgs { command: LogCommand::Digest { directory, through, json } }) => {
            digest::run(&digest::Wish { directory, through, json })
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut cli::command(), "rosettamq", &mut script);
            Ok(print(&String::from_utf8(script)?)?)
        }
        Command::Reference => Ok(print(&config::reference::page())?),
        command => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime cannot be started")?
            .block_on(client::run(command)),
    }
}

/// Says what went wrong where no log is: one text on standard error.
#[expect(clippy::print_stderr, reason = "the place where errors of the command line are shown")]
fn complain(text: &str) {
    eprintln!("rosettamq: {text}");
}
