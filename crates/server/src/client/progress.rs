//! How far a long input has come, on standard error: in place on a terminal, else a line now and then.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use base::time::{Instant, now};
use base::units::ByteSize;

const TERMINAL_INTERVAL: Duration = Duration::from_millis(500);
const LINE_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    shown: Instant,
    terminal: bool,
    quiet: bool,
    drawn: bool,
    records: u64,
    bytes: u64,
}

impl Progress {
    pub(super) fn start(quiet: bool) -> Self {
        let started = now();
        Self {
            started,
            shown: started,
            // Lines typed at a terminal would be overwritten by a line drawn in place.
            terminal: io::stderr().is_terminal() && !io::stdin().is_terminal(),
            quiet,
            drawn: false,
            records: 0,
            bytes: 0,
        }
    }

    /// Counts records that the broker has acknowledged.
    pub(super) fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
        let interval = if self.terminal { TERMINAL_INTERVAL } else { LINE_INTERVAL };
        if self.quiet || self.shown.elapsed() < interval {
            return;
        }
        self.shown = now();
        let line = self.line();
        let mut err = io::stderr().lock();
        // Progress that cannot be shown is no reason to stop.
        let _ = if self.terminal {
            self.drawn = true;
            write!(err, "\r{line}\x1b[K")
        } else {
            writeln!(err, "{line}")
        };
        let _ = err.flush();
    }

    pub(super) fn finish(&mut self, topic: &str) {
        let mut err = io::stderr().lock();
        if self.drawn {
            let _ = write!(err, "\r\x1b[K");
        }
        if !self.quiet {
            let _ = writeln!(err, "{} to {topic}", self.line());
        }
    }

    fn line(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-6);
        format!(
            "{} records, {} acknowledged in {seconds:.1} s ({:.0} records/s)",
            self.records,
            rounded(self.bytes),
            precise(self.records) / seconds
        )
    }
}

/// Sizes for people: 3 digits are enough.
fn rounded(bytes: u64) -> String {
    match bytes {
        0..10_000 => ByteSize(bytes).to_string(),
        10_000..10_000_000 => format!("{:.0} kB", precise(bytes) / 1e3),
        _ => format!("{:.0} MB", precise(bytes) / 1e6),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn precise(number: u64) -> f64 {
    number as f64
}
