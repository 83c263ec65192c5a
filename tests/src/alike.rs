//! The same requests to a real Kafka and to ours: the same answers, and in the end the same records.
//!
//! When something is cleaned is each broker's matter; what clients are answered is not. So where an answer depends on what retention
//! did, it is waited for first, and of compacted topics only what holds at any time is compared, until at the end both
//! have compacted all.

mod generator;
mod judge;
mod model;
mod side;
mod step;

use std::fmt::Write as _;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use generator::{Generator, set};
use model::Model;
use side::{LOOK_MS, Side};
use step::{Answer, Place, Step};

use crate::broker::Peer;
use crate::toolchain;
use crate::workload::now_ms;

const STEPS: usize = 1_000;
const DIFFERENCES_MAX: usize = 8;
/// Of each difference.
const CHANGES_TOLD: usize = 8;
/// What each broker gets to clean up at least: some looks.
const CLEANING: Duration = Duration::from_millis(4 * LOOK_MS);
const CLEANING_MAX: Duration = Duration::from_secs(45);
const RETENTION_MAX: Duration = Duration::from_secs(10);
/// After a change of a topic: brokers follow what is decided.
const FOLLOWING: Duration = Duration::from_millis(50);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub steps: usize,
    pub refused: usize,
    pub waits: usize,
    pub produced: usize,
    /// Records that were read of both in the end, of topics that were compacted at some time and of others.
    pub compacted: usize,
    pub other: usize,
}

struct Run {
    kafka: Side,
    ours: Side,
    model: Model,
    /// All requests with their answers.
    history: Vec<(Step, Answer)>,
    differences: Vec<String>,
    report: Report,
}

/// Asks both what follows from a seed. Nothing where there is no JDK.
pub fn run(seed: u64) -> Result<Option<Report>> {
    if !toolchain::require("Kafka's broker", &["java", "javac", "mvn"])? {
        return Ok(None);
    }
    let (kafka, ours) = (Side::start(Peer::Kafka)?, Side::start(Peer::Rosettamq)?);
    let (model, report) = (Model::default(), Report::default());
    let mut run = Run { kafka, ours, model, history: Vec::new(), differences: Vec::new(), report };
    let done = run.all(Generator::new(seed, i64::try_from(now_ms())?));
    done.map_err(|error| error.context(format!("seed {seed}")))?;
    run.ours.broker.assert_healthy()?;
    Ok(Some(run.report))
}

impl Run {
    fn all(&mut self, mut generator: Generator) -> Result<()> {
        for step in Generator::first_steps() {
            self.ask(step)?;
        }
        for _ in 0..STEPS {
            let step = generator.next(&self.model);
            self.wait_for_retention(&step)?;
            self.ask(step)?;
        }
        self.compare_records(&generator)?;
        ensure!(self.differences.is_empty(), "answers that differ:\n{}", self.differences.join("\n"));
        Ok(())
    }

    /// Asks both, and goes on as Kafka answered.
    fn ask(&mut self, step: Step) -> Result<Answer> {
        let mut theirs = self.kafka.ask(&step)?;
        let ours = self.ours.ask(&step)?;
        if let (Step::Find { of, .. }, Answer::Found { offset, .. }) = (&step, &mut theirs) {
            // Kafka finds the largest timestamp in a batch whose first records were deleted, and may name one of these.
            *offset = (*offset).max(if *offset < 0 { *offset } else { self.kafka.first(of)? });
        }
        self.report.steps += 1;
        self.report.refused += usize::from(matches!(theirs, Answer::Error(_)));
        if theirs != ours {
            self.differ(&step, &theirs, &ours)?;
        }
        self.model.note(&step, &theirs);
        self.history.push((step.clone(), theirs.clone()));
        if let (Step::Alter { topic, is_asked: false, .. }, Answer::Done) = (&step, &theirs) {
            thread::sleep(FOLLOWING);
            self.ask(Step::Describe { topic: topic.clone() })?;
        }
        Ok(theirs)
    }

    fn differ(&mut self, step: &Step, theirs: &Answer, ours: &Answer) -> Result<()> {
        let mut told = format!("{step:?}\n  Kafka: {theirs:?}\n  ours: {ours:?}\n");
        let Some(topic) = step.topic() else { bail!("{told}") };
        // What it is by now, the latest first.
        let changes = self.history.iter().rev().filter(|(step, answer)| {
            step.topic() == Some(topic) && step.is_change() && !matches!(answer, Answer::Error(_))
        });
        for (step, answer) in changes.take(CHANGES_TOLD) {
            writeln!(told, "    after {step:?}: {answer:?}")?;
        }
        self.differences.push(told);
        ensure!(self.differences.len() < DIFFERENCES_MAX, "answers that differ:\n{}", self.differences.join("\n"));
        Ok(())
    }

    /// Both get the time to delete what a look at a topic must not find, and what goes by a limit before that changes.
    fn wait_for_retention(&mut self, step: &Step) -> Result<()> {
        let Some(name) = step.topic().filter(|_| step.is_look() || step.changes_retention()) else {
            return Ok(());
        };
        let Some(topic) = self.model.topics.get_mut(name).filter(|topic| topic.is_moving) else { return Ok(()) };
        topic.is_moving = false;
        if !topic.is_limited() {
            return Ok(());
        }
        let places = places(name, topic.partitions.len());
        self.report.waits += 1;
        thread::sleep(CLEANING);
        let started = Instant::now();
        while started.elapsed() < RETENTION_MAX {
            let mut is_same = true;
            for place in &places {
                is_same &= self.kafka.first(place)? == self.ours.first(place)?;
            }
            if is_same {
                break;
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
        Ok(())
    }

    /// What is there in the end, when all is cleaned that can be.
    fn compare_records(&mut self, generator: &Generator) -> Result<()> {
        let names: Vec<(String, usize, bool)> = self
            .model
            .topics
            .iter()
            .map(|(name, topic)| (name.clone(), topic.partitions.len(), topic.compacts()))
            .collect();
        for (name, partitions, _) in names.iter().filter(|(_, _, compacts)| *compacts) {
            let operations = vec![
                set("min.cleanable.dirty.ratio", "0"),
                set("min.compaction.lag.ms", "0"),
                set("segment.ms", "1"),
                set("max.message.bytes", "1048588"),
            ];
            self.ask(Step::Alter { topic: name.clone(), operations, is_asked: false })?;
            for place in places(name, *partitions) {
                for number in 0..2 {
                    self.ask(generator.closing(&place, number))?;
                }
            }
        }
        for (name, partitions, _) in names {
            for place in places(&name, partitions) {
                let look = Step::Find { of: place.clone(), timestamp: -2 };
                self.wait_for_retention(&look)?;
                self.compare_place(&place)?;
            }
        }
        self.report.produced = self
            .model
            .topics
            .values()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.records.len())
            .sum();
        Ok(())
    }

    fn compare_place(&mut self, place: &Place) -> Result<()> {
        let started = Instant::now();
        loop {
            let first = (self.kafka.first(place)?, self.ours.first(place)?);
            let (theirs, ours) = (self.kafka.read(place)?, self.ours.read(place)?);
            let verdict = judge::compare(&self.model, place, first, (&theirs, &ours));
            match verdict {
                Ok(judge::Verdict::Same { was_compacted }) => {
                    let count = if was_compacted { &mut self.report.compacted } else { &mut self.report.other };
                    *count += ours.len();
                    return Ok(());
                }
                Ok(judge::Verdict::NotCleaned(why)) if started.elapsed() > CLEANING_MAX => {
                    self.differences.push(format!("{place:?}: {why}"));
                    return Ok(());
                }
                Ok(judge::Verdict::NotCleaned(_)) => thread::sleep(Duration::from_millis(LOOK_MS)),
                Err(error) => {
                    self.differences.push(format!("{place:?}: {error:#}"));
                    return Ok(());
                }
            }
        }
    }
}

fn places(topic: &str, partitions: usize) -> Vec<Place> {
    let all = (0..).zip(0..partitions);
    all.map(|(partition, _)| Place { topic: topic.to_owned(), partition }).collect()
}

impl Report {
    pub fn print(&self) -> Result<()> {
        let Self { steps, refused, waits, produced, compacted, other } = *self;
        writeln!(
            std::io::stderr(),
            "{steps} requests answered alike, {refused} of them with an error; retention was waited for {waits} times; of {produced} \
             records in the end {compacted} are there of compacted topics and {other} of others, the same of both"
        )?;
        Ok(())
    }
}
