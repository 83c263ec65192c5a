//! Runs seeds: `sim run SEED` one of them, `sim many COUNT` several, each in a process of its own.

mod many;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Context as _;
use base::planted::Planted;
use base::task::Scope;
use base::time::{Duration, Instant, now};
use base::trace::Sink;
use clap::{Parser, Subcommand};
use sim::plan::Sizes;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

base::fix_chance!();

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a seed takes is far less, also on a machine with other things to do.
const LIMIT_SECONDS: u64 = 300;

#[derive(Debug, Parser)]
#[command(about = "Whole clusters on simulated time, disks, network and chance")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed.
    Run {
        seed: u64,
        /// Writes every event of the trace to this file.
        #[arg(long)]
        trace: Option<std::path::PathBuf>,
        /// Shows what the nodes log, from this level on.
        #[arg(long)]
        log: Option<String>,
        #[command(flatten)]
        sizes: SizesArgs,
    },
    /// Runs seeds from FIRST on, each in a process of its own, and adds up what they covered.
    Many {
        count: u64,
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Processes at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// One seed in so many runs twice, and must have one trace; 0 for none.
        #[arg(long, default_value_t = 1)]
        twice: u64,
        /// Real seconds that a seed may take.
        #[arg(long, default_value_t = LIMIT_SECONDS)]
        limit: u64,
        #[command(flatten)]
        sizes: SizesArgs,
    },
    /// Plants each fault, or the one of `--plant`, and runs seeds until one fails: all must be found.
    #[cfg(feature = "planted")]
    Planted {
        /// Seeds for each; what is promised when it is 0.
        #[arg(default_value_t = 0)]
        count: u64,
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Processes at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Real seconds that a seed may take.
        #[arg(long, default_value_t = LIMIT_SECONDS)]
        limit: u64,
        #[command(flatten)]
        sizes: SizesArgs,
    },
}

/// What every command takes.
#[derive(Debug, clap::Args)]
struct SizesArgs {
    /// Simulated seconds in which things break.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Nothing breaks.
    #[arg(long)]
    calm: bool,
    /// A fault that is planted on purpose, in a program with the feature `planted`.
    #[arg(long)]
    plant: Option<String>,
}

impl SizesArgs {
    fn wish(self, first: u64, count: u64, jobs: usize, twice: u64, limit: u64) -> many::Wish {
        let Self { seconds, calm, plant } = self;
        many::Wish { first, count, jobs, twice, seconds, calm, plant, limit: Duration::from_secs(limit) }
    }

    fn sizes(&self) -> anyhow::Result<Sizes> {
        let planted = self.plant.as_deref().map(planted).transpose()?;
        Ok(Sizes { faulty: Duration::from_secs(self.seconds), faults: !self.calm, planted })
    }
}

/// What a line of the log begins with: the simulated time, and which life of which computer it comes from.
#[derive(Default)]
struct WhenAndWhere {
    /// The first line.
    began: OnceLock<Instant>,
}

impl FormatTime for WhenAndWhere {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        let process = Scope::current();
        let name = process.as_ref().map_or("-", Scope::name);
        let began = self.began.get_or_init(now);
        write!(out, "{:>9.3} {name}", began.elapsed().as_secs_f64())
    }
}

fn main() -> anyhow::Result<ExitCode> {
    // Nothing may draw a random number before.
    base::chance::check();
    match Cli::parse().command {
        Command::Run { seed, trace, log, sizes } => {
            if let Some(level) = log {
                tracing_subscriber::fmt()
                    .with_env_filter(level)
                    .with_timer(WhenAndWhere::default())
                    .with_writer(std::io::stderr)
                    .with_ansi(false)
                    .init();
            }
            fail_on_panic();
            let sizes = sizes.sizes()?;
            // A thread's hash tables begin with the same chance in every process; what the command line or the log
            // drew before must not shift it.
            let simulation = move || {
                let sink = trace.map(|path| sink(&path)).transpose()?;
                anyhow::Ok(sim::run::run(seed, &sizes, sink))
            };
            let thread = std::thread::Builder::new().name("simulation".to_owned()).spawn(simulation)?;
            let verdict = thread.join().map_err(|_| anyhow::anyhow!("the simulation panicked"))??;
            writeln!(std::io::stdout(), "{verdict}")?;
            Ok(code(verdict.violation.is_none()))
        }
        Command::Many { count, first, jobs, twice, limit, sizes } => {
            Ok(code(many::run(&sizes.wish(first, count, jobs, twice, limit))?))
        }
        #[cfg(feature = "planted")]
        Command::Planted { count, first, jobs, limit, sizes } => {
            Ok(code(many::planted::run(&sizes.wish(first, count, jobs, 0, limit))?))
        }
    }
}

fn code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn planted(name: &str) -> anyhow::Result<Planted> {
    anyhow::ensure!(cfg!(feature = "planted"), "build with --features planted");
    let found = Planted::ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, fault)| *fault).with_context(|| format!("possible are {:?}", Planted::ALL.map(|(name, _)| name)))
}

/// A panic anywhere is a failure of the seed, whatever catches it.
fn fail_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        std::process::exit(101);
    }));
}

#[expect(clippy::disallowed_methods, reason = "the trace is written to a real file")]
fn sink(path: &std::path::Path) -> anyhow::Result<Sink> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    Ok(Box::new(move |line| {
        // A trace that cannot be written is no part of the run.
        let _ = writeln!(file, "{line}");
    }))
}
