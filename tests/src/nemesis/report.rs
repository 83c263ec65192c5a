//! What a run comes to.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Kind;
use super::bars::{self, Wanted};
use crate::checker::Verdict;
use crate::history::{History, Identity, Outcome};

/// How long before a fault the last acknowledgement in a partition may have come.
const ACKED_BEFORE_MS: u64 = 300;

/// A time of one fault, or of none.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kind: Option<Kind>,
    pub from_ms: u64,
    pub to_ms: u64,
}

/// Figures of a run.
#[derive(Clone, Debug)]
pub struct Report {
    pub verdict: Verdict,
    pub faults: BTreeMap<Kind, Vec<Duration>>,
    pub calm: Calm,
    pub trouble: Vec<String>,
    /// Kinds of faults that this machine cannot do, with what it lacks.
    pub left_out: Vec<(Kind, &'static str)>,
    /// Bars that the run did not reach, in words.
    pub missed: Vec<String>,
}

/// In calm times an acknowledgement that takes longer is named.
const LATE_MS: u64 = 1_000;
/// So many of them are.
const LATE_NAMED_MAX: usize = 5;

/// What was sent in calm times, and when its acknowledgement came.
#[derive(Clone, Debug, Default)]
pub struct Calm {
    pub lasted: Duration,
    pub sent: usize,
    pub acked: usize,
    pub median: Duration,
    pub p99: Duration,
    pub longest: Duration,
    /// Those that came late, the latest first.
    late: Vec<Late>,
}

/// A record whose acknowledgement came late.
#[derive(Clone, Debug)]
struct Late {
    took_ms: u64,
    /// As its writer called it.
    record: String,
    partition: i32,
    /// Since the beginning.
    began: Duration,
}

impl Report {
    pub(super) fn new(
        history: &History,
        windows: Vec<Window>,
        verdict: Verdict,
        trouble: Vec<String>,
        wanted: Wanted,
    ) -> Self {
        let gaps = gaps(history);
        let mut faults: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
        for window in &windows {
            let Some(kind) = window.kind else { continue };
            // One that began before is the fault's before.
            let began_in = |gap: &&(u64, u64)| (window.from_ms..window.to_ms).contains(&(gap.0 + ACKED_BEFORE_MS));
            let longest = gaps.iter().filter(began_in).map(|(from, to)| to - from).max().unwrap_or(0);
            faults.entry(kind).or_default().push(Duration::from_millis(longest));
        }
        let calm = Calm::of(history, &windows);
        let missed = bars::missed(&wanted, &faults, verdict.acked, &calm);
        Self { verdict, faults, calm, trouble, left_out: wanted.left_out, missed }
    }

    /// Nothing is wrong, and there was enough of everything to say so.
    pub fn is_good(&self) -> bool {
        self.verdict.is_good() && self.trouble.is_empty() && self.missed.is_empty()
    }

    pub fn fault_count(&self) -> usize {
        self.faults.values().map(Vec::len).sum()
    }
}

impl Calm {
    fn of(history: &History, windows: &[Window]) -> Self {
        let is_calm = |at: u64| windows.iter().any(|one| one.kind.is_none() && (one.from_ms..one.to_ms).contains(&at));
        let mut took = Vec::new();
        let lasted_ms =
            windows.iter().filter(|one| one.kind.is_none()).map(|one| one.to_ms.saturating_sub(one.from_ms));
        let mut calm = Self { lasted: Duration::from_millis(lasted_ms.sum()), ..Self::default() };
        let first = windows.first().map_or(0, |window| window.from_ms);
        let sends = history.writers.iter().flat_map(|writer| writer.sends.iter().map(|send| (writer.id, send)));
        for (writer, send) in sends.filter(|(_, send)| is_calm(send.began_ms)) {
            calm.sent += 1;
            if let (Outcome::Acked(_), Some(ended)) = (&send.outcome, send.ended_ms) {
                let took_ms = ended.saturating_sub(send.began_ms);
                took.push(took_ms);
                if took_ms > LATE_MS {
                    let began = Duration::from_millis(send.began_ms.saturating_sub(first));
                    let record = history.shown(Identity { writer, number: send.number });
                    calm.late.push(Late { took_ms, record, partition: send.partition, began });
                }
            }
        }
        calm.late.sort_by_key(|late| Reverse(late.took_ms));
        took.sort_unstable();
        calm.acked = took.len();
        let at = |place: usize| Duration::from_millis(took.get(place).copied().unwrap_or(0));
        calm.median = at(took.len() / 2);
        calm.p99 = at(took.len() * 99 / 100);
        calm.longest = at(took.len().saturating_sub(1));
        calm
    }
}

/// Times of more than a second in which a partition had no acknowledgement.
fn gaps(history: &History) -> Vec<(u64, u64)> {
    let mut times: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for send in history.sends() {
        if let (Outcome::Acked(_), Some(ended)) = (&send.outcome, send.ended_ms) {
            times.entry(send.partition).or_default().push(ended);
        }
    }
    let mut gaps = Vec::new();
    for times in times.values_mut() {
        times.sort_unstable();
        gaps.extend(times.windows(2).filter(|pair| pair[1] - pair[0] > 1000).map(|pair| (pair[0], pair[1])));
    }
    gaps
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{} faults; the longest time without an acknowledgement in a partition:", self.fault_count())?;
        for (kind, gaps) in &self.faults {
            let mut sorted = gaps.clone();
            sorted.sort_unstable();
            let seconds = |gap: Option<&Duration>| gap.map_or(0.0, Duration::as_secs_f64);
            let (median, longest) = (seconds(sorted.get(sorted.len() / 2)), seconds(sorted.last()));
            writeln!(
                to,
                "{:>4} {:<16} median {median:5.1} s, longest {longest:5.1} s",
                gaps.len(),
                format!("{kind:?}")
            )?;
        }
        let Calm { sent, acked, median, p99, longest, late, .. } = &self.calm;
        writeln!(
            to,
            "in calm times {acked} of {sent} were acknowledged: median {median:?}, 99th percentile {p99:?}, longest {longest:?}"
        )?;
        if !late.is_empty() {
            writeln!(to, "{} of them took more than a second, the longest of:", late.len())?;
        }
        for Late { took_ms, record, partition, began } in late.iter().take(LATE_NAMED_MAX) {
            let at = began.as_secs_f64();
            writeln!(to, "  {took_ms} ms: {record}, partition {partition}, sent {at:.1} s after the beginning")?;
        }
        for trouble in &self.trouble {
            writeln!(to, "TROUBLE: {trouble}")?;
        }
        for (kind, lacks) in &self.left_out {
            writeln!(to, "LEFT OUT: {kind:?}: this machine lacks {lacks}")?;
        }
        for missed in &self.missed {
            writeln!(to, "MISSED: {missed}")?;
        }
        write!(to, "{}", self.verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_missed_a_bar_is_not_good_and_says_which() {
        let report = |duration| {
            let wanted = Wanted { duration, ..Wanted::default() };
            Report::new(&History::default(), Vec::new(), Verdict::default(), Vec::new(), wanted)
        };
        assert!(report(Duration::from_secs(60)).is_good());
        let short_of_all = report(Duration::from_secs(1800));
        assert!(!short_of_all.is_good());
        let said = short_of_all.to_string();
        assert!(said.contains("MISSED: 0 faults") && said.contains("MISSED: 0 records"), "{said}");
    }

    #[test]
    fn calm_times_are_added_up() {
        let calm = |from_ms, to_ms| Window { kind: None, from_ms, to_ms };
        let fault = Window { kind: Some(Kind::KillOne), from_ms: 3_000, to_ms: 5_000 };
        let report = Calm::of(&History::default(), &[calm(0, 3_000), fault, calm(7_000, 8_500)]);
        assert_eq!(report.lasted, Duration::from_millis(4_500));
    }
}
