//! Mistreats a cluster for some minutes and judges what its clients saw.
//!
//! `nemesis MINUTES [NODES [SEED [KIND ...]]]`. Logs and histories of a run that went wrong are kept in the target
//! folder. The broker is the one that `TEST_BINARY` names, else it is built.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tests::nemesis::{self, Kind, Plan};
use tests::places;
use tests::workload;

const USAGE: &str = "usage: nemesis MINUTES [NODES [SEED [KIND ...]]]";

fn main() -> Result<ExitCode> {
    let words: Vec<String> = env::args().skip(1).collect();
    let minutes: f64 = words.first().context(USAGE)?.parse().context(USAGE)?;
    let nodes = words.get(1).map_or(Ok(3), |word| word.parse()).context(USAGE)?;
    let seed = match words.get(2) {
        Some(word) => word.parse().context(USAGE)?,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let kinds = words.iter().skip(3).map(|word| kind(word)).collect::<Result<Vec<_>>>()?;
    let mut load = workload::Plan::new("nemesis", seed)?;
    (load.writers, load.rate, load.partitions) = (2, 200, 12);
    let keep = places::target().join("nemesis").join(seed.to_string());
    let plan = Plan {
        seed,
        nodes,
        duration: Duration::from_secs_f64(minutes * 60.0),
        kinds: if kinds.is_empty() { Kind::ALL.to_vec() } else { kinds },
        hold: (Duration::from_secs(2), Duration::from_secs(10)),
        pause: (Duration::from_secs(1), Duration::from_secs(4)),
        calm_every: Duration::from_secs(360),
        calm: Duration::from_secs_f64((minutes * 60.0 / 8.0).min(60.0)),
        settle_limit: Duration::from_secs(900),
        load,
        keep: Some(keep.clone()),
    };
    let report = nemesis::run(plan, &mut |line| {
        // Whoever reads it may have gone; the run goes on.
        let _closed = writeln!(io::stdout(), "{line}");
    })?;
    writeln!(io::stdout(), "{report}")?;
    if report.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(io::stdout(), "logs and histories: {}", keep.display())?;
    Ok(ExitCode::FAILURE)
}

fn kind(word: &str) -> Result<Kind> {
    match Kind::ALL.into_iter().find(|kind| format!("{kind:?}").eq_ignore_ascii_case(word)) {
        Some(kind) => Ok(kind),
        None => bail!("{word} is no fault; there are {:?}", Kind::ALL),
    }
}
