//! What a run must come to besides a history without anomalies: so much that its verdict says something.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Kind;
use super::report::Calm;

/// A run of this length must reach the bars below, and each kind of fault must occur in it.
const LONG: Duration = Duration::from_secs(30 * 60);
/// From this length on a run of all kinds must reach its share of them. Shorter ones have bars of their own, if any.
const SHARED: Duration = Duration::from_secs(10 * 60);
const FAULTS_MIN: u128 = 100;
const ACKED_MIN: u128 = 1_000_000;
/// Of what is sent in calm times.
const CALM_PERCENT_MIN: usize = 99;
/// So many records a second at least are sent in calm times, or they say nothing.
const CALM_PER_SECOND_MIN: u64 = 10;

/// How long a run was to be, and of which faults.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) duration: Duration,
    /// All kinds there are, but for those that need more nodes.
    pub(super) is_of_all_kinds: bool,
    /// The kinds from which faults were drawn.
    pub(super) kinds: Vec<Kind>,
    /// Kinds that were left out since this machine cannot do them, with what it lacks.
    pub(super) left_out: Vec<(Kind, &'static str)>,
    /// Whether what is left out counts as missing, as in CI.
    pub(super) needs_left_out: bool,
}

/// The bars that a run missed, in words.
pub(super) fn missed(
    wanted: &Wanted,
    faults: &BTreeMap<Kind, Vec<Duration>>,
    acked: usize,
    calm: &Calm,
) -> Vec<String> {
    let mut missed = Vec::new();
    let Wanted { duration, is_of_all_kinds, .. } = *wanted;
    let minutes = duration.as_secs() / 60;
    if duration >= LONG || (is_of_all_kinds && duration >= SHARED) {
        let share = |of: u128| of * duration.min(LONG).as_millis() / LONG.as_millis();
        let occurred: usize = faults.values().map(Vec::len).sum();
        for (what, was, least) in
            [("faults", occurred, share(FAULTS_MIN)), ("records were acknowledged", acked, share(ACKED_MIN))]
        {
            if (was as u128) < least {
                missed.push(format!("{was} {what}: in {minutes} minutes there must be {least}"));
            }
        }
    }
    if duration >= LONG && is_of_all_kinds {
        let left_out = wanted.left_out.iter().map(|(kind, _)| *kind).filter(|_| wanted.needs_left_out);
        let never = wanted.kinds.iter().copied().chain(left_out).filter(|kind| !faults.contains_key(kind));
        missed.extend(never.map(|kind| format!("{kind:?} never occurred in {minutes} minutes")));
    }
    missed.extend(missed_in(calm));
    missed
}

fn missed_in(calm: &Calm) -> Option<String> {
    let Calm { lasted, sent, acked, .. } = calm;
    let least = usize::try_from(lasted.as_secs() * CALM_PER_SECOND_MIN).unwrap_or(usize::MAX);
    if *sent < least {
        return Some(format!("{sent} records were sent in calm times: in {lasted:?} there must be {least}"));
    }
    let is_enough = acked * 100 >= sent * CALM_PERCENT_MIN;
    (!is_enough).then(|| format!("{acked} of {sent} in calm times: {CALM_PERCENT_MIN} % of them must be acknowledged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(count * 60)
    }

    fn wanted(duration: Duration) -> Wanted {
        let kinds = vec![Kind::KillOne, Kind::Wipe];
        Wanted { duration, is_of_all_kinds: true, kinds, ..Wanted::default() }
    }

    /// `count` faults, of both kinds.
    fn faults(count: usize) -> BTreeMap<Kind, Vec<Duration>> {
        let of = |count| vec![Duration::ZERO; count];
        BTreeMap::from([(Kind::KillOne, of(count - 1)), (Kind::Wipe, of(1))])
    }

    fn calm(lasted: Duration, sent: usize, acked: usize) -> Calm {
        let mut calm = Calm::default();
        (calm.lasted, calm.sent, calm.acked) = (lasted, sent, acked);
        calm
    }

    /// `expected` are words of the only bar that is missed.
    fn check(wanted: &Wanted, faults: &BTreeMap<Kind, Vec<Duration>>, acked: usize, calm: &Calm, expected: &str) {
        let missed = missed(wanted, faults, acked, calm);
        let is_right = if expected.is_empty() { missed.is_empty() } else { missed.len() == 1 };
        assert!(is_right && missed.iter().all(|missed| missed.contains(expected)), "{expected:?} in {missed:?}");
    }

    #[test]
    fn a_long_run_needs_faults_and_records() {
        let still = Calm::default();
        for length in [30, 31, 600] {
            let long = wanted(minutes(length));
            check(&long, &faults(100), 1_000_000, &still, "");
            check(&long, &faults(99), 1_000_000, &still, "99 faults");
            check(&long, &faults(100), 999_999, &still, "999999 records");
        }
        let narrowed = Wanted { is_of_all_kinds: false, ..wanted(minutes(30)) };
        check(&narrowed, &faults(99), 1_000_000, &still, "99 faults");
    }

    #[test]
    fn a_shorter_run_of_all_kinds_needs_its_share() {
        let still = Calm::default();
        let shorter = wanted(minutes(15));
        check(&shorter, &faults(50), 500_000, &still, "");
        check(&shorter, &faults(49), 500_000, &still, "49 faults");
        check(&shorter, &faults(50), 499_999, &still, "499999 records");
        check(&Wanted { is_of_all_kinds: false, ..shorter }, &faults(3), 7, &still, "");
        check(&wanted(minutes(1)), &faults(2), 7, &still, "");
    }

    #[test]
    fn each_kind_must_occur_in_a_long_run() {
        let still = Calm::default();
        let only = BTreeMap::from([(Kind::KillOne, vec![Duration::ZERO; 100])]);
        let long = wanted(minutes(30));
        check(&long, &only, 1_000_000, &still, "Wipe never occurred");
        check(&Wanted { is_of_all_kinds: false, ..long }, &only, 1_000_000, &still, "");
        check(&wanted(minutes(29)), &only, 1_000_000, &still, "");
    }

    #[test]
    fn what_the_machine_cannot_do_is_missed_in_ci() {
        let lacking = Wanted { left_out: vec![(Kind::Delay, "netem")], ..wanted(minutes(30)) };
        check(&lacking, &faults(100), 1_000_000, &Calm::default(), "");
        let in_ci = Wanted { needs_left_out: true, ..lacking };
        check(&in_ci, &faults(100), 1_000_000, &Calm::default(), "Delay never occurred");
        let shorter = Wanted { duration: minutes(1), ..in_ci };
        check(&shorter, &faults(4), 700, &Calm::default(), "");
    }

    #[test]
    fn calm_times_of_any_run_need_records_that_are_acknowledged() {
        let short = wanted(minutes(1));
        let check = |calm, expected| check(&short, &faults(4), 700, &calm, expected);
        let six = Duration::from_secs(6);
        check(calm(six, 900, 900), "");
        check(calm(six, 900, 891), "");
        check(calm(six, 900, 890), "890 of 900 in calm times");
        check(calm(six, 60, 60), "");
        check(calm(six, 59, 59), "59 records were sent in calm times");
        check(calm(six, 0, 0), "0 records were sent");
        check(Calm::default(), "");
    }
}
