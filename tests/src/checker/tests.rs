//! Faked histories: a good one, and for each anomaly one that has it.

use super::{Anomaly, check};
use crate::history::{Event, History, Outcome, Reader, Record, Send, Writer};

/// A history that is written down in a few words.
#[derive(Default)]
struct Fake(History);

impl Fake {
    /// `records` are (partition, number, outcome), sent a millisecond apart.
    fn writer(mut self, name: &str, records: &[(i32, u32, Outcome)]) -> Self {
        let id = self.0.name(name);
        let sends = records.iter().zip(0_u64..).map(|((partition, number, outcome), at)| Send {
            partition: *partition,
            number: *number,
            began_ms: at,
            ended_ms: Some(at + 1),
            outcome: outcome.clone(),
        });
        self.0.writers.push(Writer { id, sends: sends.collect(), fatal: None });
        self
    }

    fn polled(&mut self, partition: i32, records: &[(i64, &str)]) -> Event {
        let records =
            records.iter().map(|(offset, value)| Record { offset: *offset, value: self.0.identity(value) }).collect();
        Event::Polled { at_ms: 50, partition, records }
    }

    /// Each poll is of one partition.
    fn reader(mut self, name: &str, polls: &[(i32, &[(i64, &str)])]) -> Self {
        let events = polls.iter().map(|(partition, records)| self.polled(*partition, records)).collect();
        self.0.readers.push(Reader { name: name.to_owned(), group: None, events });
        self
    }

    fn member(mut self, name: &str, events: impl FnOnce(&mut Self) -> Vec<Event>) -> Self {
        let events = events(&mut self);
        self.0.readers.push(Reader { name: name.to_owned(), group: Some("g".to_owned()), events });
        self
    }

    #[track_caller]
    fn has(self, expected: &[Anomaly]) {
        let verdict = check(&self.0);
        let found: Vec<Anomaly> = verdict.counts.keys().copied().collect();
        assert_eq!(found, expected, "{verdict}");
        assert_eq!(verdict.is_good(), expected.is_empty());
        assert!(expected.iter().all(|anomaly| verdict.has(*anomaly)));
    }
}

fn acked(offset: i64) -> Outcome {
    Outcome::Acked(Some(offset))
}

fn unknown() -> Outcome {
    Outcome::Unknown("timed out".to_owned())
}

fn assigned(at_ms: u64) -> Event {
    Event::Assigned { at_ms, partitions: vec![0] }
}

fn committed(at_ms: u64, offset: i64) -> Event {
    Event::Committed { at_ms, offsets: vec![(0, offset)] }
}

/// Three records of one writer in one partition.
fn three() -> Fake {
    Fake::default().writer("a", &[(0, 0, acked(0)), (0, 1, acked(1)), (0, 2, acked(2))])
}

const THREE: &[(i64, &str)] = &[(0, "a/0"), (1, "a/1"), (2, "a/2")];

#[test]
fn what_a_log_may_do_is_accepted() {
    Fake::default()
        .writer("a", &[(0, 0, acked(0)), (1, 1, unknown()), (0, 2, acked(2)), (1, 3, unknown()), (0, 5, acked(3))])
        .writer("b", &[(0, 0, acked(1)), (0, 1, Outcome::Acked(None)), (0, 2, Outcome::Refused("full".to_owned()))])
        .reader("r", &[(0, &[(0, "a/0"), (1, "b/0")]), (1, &[(0, "a/3")]), (0, &[(2, "a/2"), (3, "a/5"), (4, "b/1")])])
        .has(&[]);
}

#[test]
fn what_groups_may_do_is_accepted() {
    three()
        .reader("r", &[(0, THREE)])
        .member("m", |fake| {
            let first = fake.polled(0, &THREE[..2]);
            // What was read and not committed is read again.
            let second = fake.polled(0, &THREE[1..]);
            let looked = Event::Looked { began_ms: 40, offsets: vec![(0, 1)] };
            vec![assigned(10), first, committed(30, 1), looked, assigned(60), second, committed(70, 3)]
        })
        .has(&[]);
}

#[test]
fn an_acknowledged_record_that_nobody_read_is_lost() {
    three().reader("r", &[(0, &THREE[..2])]).has(&[Anomaly::Lost]);
}

#[test]
fn a_lost_record_whose_offset_went_to_another_is_both() {
    Fake::default()
        .writer("a", &[(0, 0, acked(0)), (0, 1, acked(1))])
        .writer("b", &[(0, 0, unknown())])
        .reader("r", &[(0, &[(0, "a/0"), (1, "b/0")])])
        .has(&[Anomaly::Lost, Anomaly::Inconsistent]);
}

#[test]
fn an_acknowledgement_without_an_offset_promises_too() {
    Fake::default().writer("a", &[(0, 0, Outcome::Acked(None))]).reader("r", &[]).has(&[Anomaly::Lost]);
}

#[test]
fn a_record_at_two_offsets_is_duplicated() {
    three().reader("r", &[(0, THREE), (0, &[(3, "a/2")])]).has(&[Anomaly::Duplicated]);
}

#[test]
fn an_unknown_record_may_not_be_there_twice_either() {
    Fake::default()
        .writer("a", &[(0, 0, unknown())])
        .reader("r", &[(0, &[(0, "a/0"), (1, "a/0")])])
        .has(&[Anomaly::Duplicated]);
}

#[test]
fn a_later_record_before_an_earlier_one_is_reordered() {
    Fake::default()
        .writer("a", &[(0, 0, acked(1)), (0, 1, acked(0))])
        .reader("r", &[(0, &[(0, "a/1"), (1, "a/0")])])
        .has(&[Anomaly::Reordered]);
}

#[test]
fn an_offset_that_a_reader_missed_is_a_gap() {
    three().reader("r", &[(0, THREE)]).reader("s", &[(0, &THREE[..1]), (0, &THREE[2..])]).has(&[Anomaly::Gap]);
}

#[test]
fn a_reader_that_does_not_get_the_first_has_a_gap() {
    three().reader("r", &[(0, THREE)]).reader("s", &[(0, &THREE[1..])]).has(&[Anomaly::Gap]);
}

#[test]
fn what_nobody_sent_is_a_phantom() {
    three().reader("r", &[(0, THREE), (0, &[(3, "x")])]).has(&[Anomaly::Phantom]);
}

#[test]
fn what_was_refused_is_a_phantom() {
    Fake::default()
        .writer("a", &[(0, 0, Outcome::Refused("too large".to_owned()))])
        .reader("r", &[(0, &[(0, "a/0")])])
        .has(&[Anomaly::Phantom]);
}

#[test]
fn what_was_sent_to_another_partition_is_a_phantom() {
    Fake::default().writer("a", &[(1, 0, unknown())]).reader("r", &[(0, &[(0, "a/0")])]).has(&[Anomaly::Phantom]);
}

#[test]
fn a_reader_that_goes_back_is_nonmonotonic() {
    three().reader("r", &[(0, THREE), (0, &THREE[2..])]).has(&[Anomaly::Nonmonotonic]);
}

#[test]
fn two_readers_that_see_two_values_are_inconsistent() {
    Fake::default()
        .writer("a", &[(0, 0, unknown()), (0, 1, unknown())])
        .reader("r", &[(0, &[(0, "a/0")])])
        .reader("s", &[(0, &[(0, "a/1")])])
        .has(&[Anomaly::Inconsistent]);
}

#[test]
fn a_look_that_sees_less_than_was_committed_is_found() {
    three()
        .reader("r", &[(0, THREE)])
        .member("m", |fake| vec![assigned(10), fake.polled(0, THREE), committed(30, 3)])
        .member("w", |_| vec![Event::Looked { began_ms: 31, offsets: vec![(0, 2)] }])
        .has(&[Anomaly::CommitsWentBack]);
}

#[test]
fn a_member_that_begins_before_what_was_committed_is_found() {
    three()
        .reader("r", &[(0, THREE)])
        .member("m", |fake| vec![assigned(10), fake.polled(0, THREE), committed(30, 2)])
        .member("n", |fake| vec![assigned(31), fake.polled(0, THREE)])
        .has(&[Anomaly::CommitsWentBack]);
}

#[test]
fn what_was_committed_while_a_member_looked_need_not_be_seen() {
    three()
        .reader("r", &[(0, THREE)])
        .member("m", |fake| vec![assigned(10), fake.polled(0, THREE), committed(30, 3)])
        .member("w", |_| vec![Event::Looked { began_ms: 30, offsets: vec![(0, 0)] }])
        .has(&[]);
}

#[test]
fn committed_and_not_read_is_skipped() {
    three()
        .reader("r", &[(0, THREE)])
        .member("m", |fake| vec![assigned(10), fake.polled(0, &THREE[..2]), committed(30, 3)])
        .has(&[Anomaly::Skipped]);
}

#[test]
fn a_hole_between_two_members_is_skipped() {
    three()
        .reader("r", &[(0, THREE)])
        .member("m", |fake| vec![assigned(10), fake.polled(0, &THREE[..1]), committed(30, 1)])
        .member("n", |fake| vec![assigned(40), fake.polled(0, &THREE[2..]), committed(60, 3)])
        .has(&[Anomaly::Skipped]);
}

#[test]
fn a_reader_that_is_sent_away_is_reset() {
    let mut fake = three().reader("r", &[(0, THREE)]);
    let error = "OFFSET_OUT_OF_RANGE".to_owned();
    fake.0.readers[0].events.push(Event::Reset { at_ms: 9, partition: 0, error });
    fake.has(&[Anomaly::Reset]);
}
