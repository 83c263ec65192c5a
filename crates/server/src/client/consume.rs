//! `rosettamq consume`: prints records, alone or as a member of a group, up to the end or as they arrive.
//!
//! Without `--follow` it stops at the offsets that were the end when it began, so that it ends on a busy topic too.
//! A group's offset is committed only after its records have been written to standard output.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base::time::now;
use record::Record;

use super::cluster::{Cluster, leaders, pause};
use super::fetch::{EARLIEST, Fetched, LATEST, Reading, fetch, for_each_record, list_offsets, no_partition};
use super::groups::committed_offsets;
use super::interrupt::Interrupt;
use super::membership::{Membership, Standing};
use super::{error_name, is_retriable};
use crate::cli::{Column, ConsumeArgs, StartAt};

/// How long a broker holds an answer back when there is nothing new.
const WAIT: Duration = Duration::from_millis(500);
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
const OFFSET_OUT_OF_RANGE: i16 = 1;

pub(super) async fn run(args: ConsumeArgs) -> anyhow::Result<()> {
    if args.count == Some(0) {
        return Ok(());
    }
    let cluster = Cluster::connect(&args.connect).await?;
    let printer = Printer::new(&args);
    let mut consumer =
        Consumer { cluster, args, printer, readings: Vec::new(), ends: Vec::new(), round: 0, retry_until: None };
    let result = match consumer.args.group.clone() {
        None => consumer.alone().await,
        Some(group) => consumer.in_group(&group).await,
    };
    // The reader of standard output has gone away: it has what it wants.
    match result {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Consumer {
    cluster: Cluster,
    args: ConsumeArgs,
    printer: Printer,
    readings: Vec<Reading>,
    /// Where each reading stops unless it follows.
    ends: Vec<i64>,
    round: usize,
    /// Set while leaders cannot be reached.
    retry_until: Option<super::cluster::Deadline>,
}

impl Consumer {
    async fn alone(&mut self) -> anyhow::Result<()> {
        let names = self.args.topics.clone();
        let mut partitions = Vec::new();
        for topic in self.cluster.topics(&names, false).await? {
            let name = topic.name.as_ref().map(|name| name.0.to_string()).unwrap_or_default();
            let all: BTreeSet<i32> = leaders(&topic).into_keys().collect();
            for wanted in &self.args.partitions {
                ensure!(all.contains(wanted), no_partition(&name, *wanted));
            }
            let is_wanted =
                |partition: &i32| self.args.partitions.is_empty() || self.args.partitions.contains(partition);
            partitions.extend(all.into_iter().filter(is_wanted).map(|partition| (name.clone(), partition)));
        }
        self.start(&partitions, &BTreeMap::new()).await?;
        let mut interrupt = Interrupt::listen()?;
        while !self.is_done() {
            tokio::select! {
                result = self.read_once() => result?,
                () = interrupt.received() => break,
            }
        }
        self.printer.out.flush()?;
        Ok(())
    }

    async fn in_group(&mut self, group: &str) -> anyhow::Result<()> {
        let topics = self.args.topics.clone();
        self.cluster.topics(&topics, false).await?;
        let mut interrupt = Interrupt::listen()?;
        let mut membership = Membership::new(&mut self.cluster, group, &topics).await?;
        let result = self.as_member(&mut membership, &mut interrupt, group).await;
        let left = membership.leave(&mut self.cluster).await;
        result.and(left)
    }

    /// However it ends, the group MUST be left.
    async fn as_member(
        &mut self,
        membership: &mut Membership,
        interrupt: &mut Interrupt,
        group: &str,
    ) -> anyhow::Result<()> {
        let mut standing = Standing::MustRejoin;
        let mut committed = BTreeMap::new();
        let mut commit_at = now() + COMMIT_INTERVAL;
        loop {
            let step = async {
                if standing == Standing::MustRejoin {
                    let partitions = membership.join(&mut self.cluster).await?;
                    let coordinator = membership.coordinator();
                    committed = committed_offsets(&mut self.cluster, coordinator, group, Some(&partitions)).await?;
                    self.start(&partitions, &committed).await?;
                }
                self.read_once().await?;
                membership.heartbeat(&mut self.cluster).await
            };
            // An interrupt may cut a request short; what follows goes over another connection.
            let interrupted = tokio::select! {
                result = step => match result {
                    Ok(new) => { standing = new; false }
                    Err(error) => return Err(error),
                },
                () = interrupt.received() => true,
            };
            let done = interrupted || self.is_done();
            if done || standing == Standing::MustRejoin || now() >= commit_at {
                commit_at = now() + COMMIT_INTERVAL;
                self.printer.out.flush()?;
                let read = self.positions();
                if read != committed && !read.is_empty() {
                    if membership.commit(&mut self.cluster, &read).await? == Standing::MustRejoin {
                        standing = Standing::MustRejoin;
                    }
                    committed = read;
                }
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Offsets after the last record printed, by partition.
    fn positions(&self) -> BTreeMap<(String, i32), i64> {
        let position = |reading: &Reading| ((reading.topic.clone(), reading.partition), reading.offset);
        self.readings.iter().map(position).collect()
    }

    /// Begins to read partitions at their committed offsets, or where the command line says.
    async fn start(
        &mut self,
        partitions: &[(String, i32)],
        committed: &BTreeMap<(String, i32), i64>,
    ) -> anyhow::Result<()> {
        self.readings.clear();
        self.ends.clear();
        let names: BTreeSet<_> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
        for name in names {
            let topics = self.cluster.topics(std::slice::from_ref(&name), false).await?;
            let leaders = topics.first().map(leaders).unwrap_or_default();
            let own: Vec<i32> = partitions.iter().filter(|(topic, _)| *topic == name).map(|(_, own)| *own).collect();
            let ask = |timestamp| own.iter().map(|partition| (*partition, timestamp)).collect::<BTreeMap<_, _>>();
            let ends = list_offsets(&mut self.cluster, &name, &leaders, &ask(LATEST)).await?;
            let starts = match self.args.from {
                StartAt::Beginning => list_offsets(&mut self.cluster, &name, &leaders, &ask(EARLIEST)).await?,
                StartAt::End => ends.clone(),
                StartAt::Offset(offset) => ask(offset),
                StartAt::Time(time) => list_offsets(&mut self.cluster, &name, &leaders, &ask(time)).await?,
            };
            for partition in own {
                let end = ends.get(&partition).copied().unwrap_or(0);
                // No record at or after a time is answered with -1.
                let start = starts.get(&partition).copied().filter(|start| *start >= 0).unwrap_or(end);
                let offset = committed.get(&(name.clone(), partition)).copied().unwrap_or(start);
                self.readings.push(Reading {
                    topic: name.clone(),
                    partition,
                    leader: *leaders.get(&partition).with_context(|| no_partition(&name, partition))?,
                    offset,
                });
                self.ends.push(end);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let at_end = |(reading, end): (&Reading, &i64)| reading.offset >= *end;
        self.printer.is_full() || !self.args.follow && self.readings.iter().zip(&self.ends).all(at_end)
    }

    /// One fetch from each leader that has something to give.
    async fn read_once(&mut self) -> anyhow::Result<()> {
        let follow = self.args.follow;
        let wants = |(reading, end): (&Reading, &i64)| (follow || reading.offset < *end).then_some(reading.leader.node);
        let nodes: BTreeSet<i32> = self.readings.iter().zip(&self.ends).filter_map(wants).collect();
        if nodes.is_empty() {
            // A member without partitions waits for the next rebalance.
            pause().await;
            return Ok(());
        }
        // With several leaders no answer is held back, so that one without news does not delay the others.
        let wait = if nodes.len() == 1 { WAIT } else { Duration::ZERO };
        let (mut progress, mut failure) = (false, None);
        for node in nodes {
            self.round += 1;
            match fetch(&mut self.cluster, node, &self.readings, self.round, wait).await {
                Ok(fetched) => {
                    for partition in fetched {
                        progress |= self.take(partition, &mut failure).await?;
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return self.recover(error).await;
        }
        self.retry_until = None;
        self.printer.out.flush()?;
        if !progress && wait.is_zero() {
            pause().await;
        }
        Ok(())
    }

    /// Prints what a fetch brought; true when that was something.
    async fn take(&mut self, fetched: Fetched, failure: &mut Option<anyhow::Error>) -> anyhow::Result<bool> {
        let reading = &self.readings[fetched.reading];
        let (topic, partition, offset) = (reading.topic.clone(), reading.partition, reading.offset);
        match fetched.error_code {
            0 => {}
            OFFSET_OUT_OF_RANGE => {
                let leaders = BTreeMap::from([(partition, reading.leader)]);
                let ask = BTreeMap::from([(partition, EARLIEST)]);
                let first = list_offsets(&mut self.cluster, &topic, &leaders, &ask).await?;
                let first = first.get(&partition).copied().unwrap_or(0);
                ensure!(
                    offset < first,
                    "offset {offset} of {topic} {partition} is beyond the end, {}",
                    fetched.high_watermark.max(self.ends[fetched.reading])
                );
                // Retention took the records; reading goes on with the first that is left.
                self.readings[fetched.reading].offset = first;
                return Ok(true);
            }
            code => {
                let error = anyhow::anyhow!("reading {topic} {partition}: {}", error_name(code));
                if !is_retriable(code) {
                    return Err(error);
                }
                *failure = Some(error);
                return Ok(false);
            }
        }
        let end = if self.args.follow { i64::MAX } else { self.ends[fetched.reading] };
        let printer = &mut self.printer;
        let next = for_each_record(fetched.records, offset, |record| {
            // What came after the command was started is not part of its answer.
            if record.offset.0 < end {
                printer.print(&topic, partition, record)?;
            }
            Ok(!printer.is_full())
        })?;
        self.readings[fetched.reading].offset = next;
        Ok(next > offset)
    }

    /// Looks for the leaders anew, until that has gone on for too long.
    async fn recover(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        let deadline = *self.retry_until.get_or_insert_with(|| self.cluster.deadline());
        if deadline.passed() {
            bail!("gave up: {error:#}");
        }
        pause().await;
        let names: Vec<_> = self.args.topics.clone();
        let Ok(topics) = self.cluster.topics(&names, false).await else {
            return Ok(());
        };
        for topic in topics {
            let leaders = leaders(&topic);
            let name = topic.name.map(|name| name.0.to_string()).unwrap_or_default();
            for reading in self.readings.iter_mut().filter(|reading| reading.topic == name) {
                if let Some(leader) = leaders.get(&reading.partition) {
                    reading.leader = *leader;
                }
            }
        }
        Ok(())
    }
}

struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    columns: Vec<Column>,
    left: Option<u64>,
}

impl Printer {
    fn new(args: &ConsumeArgs) -> Self {
        Self {
            out: BufWriter::with_capacity(256 << 10, io::stdout().lock()),
            columns: args.print.clone(),
            left: args.count,
        }
    }

    fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    fn print(&mut self, topic: &str, partition: i32, record: &Record) -> io::Result<()> {
        if self.is_full() {
            return Ok(());
        }
        write_line(&mut self.out, &self.columns, topic, partition, record)?;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Ok(())
    }
}

fn write_line(
    out: &mut impl io::Write,
    columns: &[Column],
    topic: &str,
    partition: i32,
    record: &Record,
) -> io::Result<()> {
    let or_null = |bytes: &Option<bytes::Bytes>| bytes.clone().unwrap_or(bytes::Bytes::from_static(b"null"));
    for column in columns {
        match column {
            Column::Topic => write!(out, "{topic}")?,
            Column::Partition => write!(out, "{partition}")?,
            Column::Offset => write!(out, "{}", record.offset.0)?,
            Column::Timestamp => write!(out, "{}", record.timestamp.0)?,
            Column::Key => out.write_all(&or_null(&record.key))?,
            Column::Headers => {
                for (at, (key, value)) in record.headers.iter().enumerate() {
                    if at > 0 {
                        out.write_all(b",")?;
                    }
                    out.write_all(&key)?;
                    out.write_all(b"=")?;
                    out.write_all(&or_null(&value))?;
                }
            }
        }
        out.write_all(b"\t")?;
    }
    out.write_all(&or_null(&record.value))?;
    out.write_all(b"\n")
}
