//! Runs client programs, tools and suites of others against three nodes of which one is restarted every so many
//! seconds: `restarts [SECONDS] [SUITE ...]`. See docs/testing.md.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::restarts::{self, Rhythm, Suite};

const USAGE: &str = "usage: restarts [SECONDS] [SUITE ...]";

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seconds = words.first().map_or(Ok(30.0), |word| word.parse()).context(USAGE)?;
    let suites = words.iter().skip(1).map(|word| suite(word)).collect::<Result<Vec<_>>>()?;
    let suites = if suites.is_empty() { Suite::ALL.to_vec() } else { suites };
    let rhythm = Rhythm { every: Duration::from_secs_f64(seconds), kill_every: 3 };
    let mut failed = 0;
    for suite in suites {
        let report = restarts::run(suite, rhythm, 3).unwrap_or_else(|error| {
            failed += 1;
            format!("FAILED {error:#}")
        });
        writeln!(io::stdout(), "{}", report.trim_end())?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn suite(word: &str) -> Result<Suite> {
    let found = Suite::ALL.into_iter().find(|suite| format!("{suite:?}").eq_ignore_ascii_case(word));
    found.with_context(|| format!("{word} is no suite; there are {:?}", Suite::ALL))
}
