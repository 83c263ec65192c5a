//! What time may take away: producers that are remembered, a member of a group, an offset of a group without members;
//! and the time that records get.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::wire::groups::{self, Member};
use crate::wire::requests::{self, PRODUCE, PRODUCE_VERSION, Produced, produce_answer, produce_body};
use crate::wire::{Batch, Connection};
use crate::workload::{make_topic, now_ms};
use crate::{process, wire};

const TOPIC: &str = "lasting";
const PARTITIONS: i32 = 6;
/// The longest that a broker allows.
const SESSION_MS: i32 = 1_800_000;
const OFFSET: i64 = 7;
/// How far the time of a record may be from that of the machine: nodes do not correct each other by less than a few
/// seconds, and what the others say of their clocks is late where a machine is busy.
const TIME_OFF_MAX_MS: u64 = 20_000;
/// For so long after a jump times are looked at: longer than nodes take to compare their clocks.
const LOOK_TIME: Duration = Duration::from_millis(1_500);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Who leads, or whether it is done, is not known yet: unknown partition, no leader, another one, too late, not enough
/// copies, and what the broker itself cannot do right now.
const TRY_AGAIN: [i16; 8] = [3, 5, 6, 7, 13, 19, 20, 56];

pub(super) struct Lasting {
    addresses: Vec<SocketAddr>,
    group: String,
    member: Member,
    producers: BTreeMap<i32, Producer>,
}

/// An idempotent producer of one partition.
struct Producer {
    id: i64,
    epoch: i16,
    /// Where its only record is.
    first_offset: i64,
}

impl Lasting {
    /// A producer for every partition, and a group with a member that says nothing any more beside one without any.
    pub(super) fn begin(bootstrap: &str, group: &str) -> Result<Self> {
        make_topic(bootstrap, TOPIC, PARTITIONS)?;
        let addresses = bootstrap.split(',').map(str::parse).collect::<Result<Vec<SocketAddr>, _>>()?;
        let group = group.to_owned();
        let mut lasting = Self { addresses, group, member: Member::none(), producers: BTreeMap::new() };
        lasting.anywhere("the topic's time", |connection| {
            let error = wire::admin::set_topic_config(connection, TOPIC, "message.timestamp.type", "LogAppendTime")?;
            ensure!(error == 0, "setting the topic's time: error {error}");
            Ok(())
        })?;
        lasting.member = lasting
            .coordinated(&lasting.group, |connection| groups::join_alone_for(connection, &lasting.group, SESSION_MS))?;
        let empty = lasting.empty();
        let error = lasting.coordinated(&empty, |connection| {
            groups::commit(connection, &empty, &Member::none(), (TOPIC, 0), OFFSET)
        })?;
        ensure!(error == 0, "a commit of {empty}: error {error}");
        for partition in 0..PARTITIONS {
            let (id, epoch) = lasting.anywhere("a producer", requests::init_producer_id)?;
            let first_offset = lasting.produce(partition, (id, epoch, 0))?.base_offset;
            lasting.producers.insert(partition, Producer { id, epoch, first_offset });
        }
        Ok(lasting)
    }

    fn empty(&self) -> String {
        format!("{}-empty", self.group)
    }

    /// Whether everything is still there.
    pub(super) fn is_whole(&self) -> Result<()> {
        for (partition, producer) in &self.producers {
            let again = self.produce(*partition, (producer.id, producer.epoch, 0))?;
            let (expected, got) = (producer.first_offset, again.base_offset);
            ensure!(expected == got, "producer {} was forgotten: its record is at {expected} and {got}", producer.id);
        }
        let error =
            self.coordinated(&self.group, |connection| groups::heartbeat(connection, &self.group, &self.member))?;
        ensure!(error == 0, "the member of {} is told of error {error}", self.group);
        let empty = self.empty();
        let offset = self.coordinated(&empty, |connection| groups::committed(connection, &empty, (TOPIC, 0)))?;
        ensure!(offset == OFFSET, "the offset of {empty} is {offset}, {OFFSET} was committed");
        Ok(())
    }

    /// Whether records get the time that it is.
    pub(super) fn has_right_time(&self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < LOOK_TIME {
            for partition in 0..PARTITIONS {
                let from_ms = now_ms();
                let produced = self.produce(partition, (-1, -1, -1))?;
                let time_ms = u64::try_from(produced.append_ms).unwrap_or(0);
                let expected = from_ms.saturating_sub(TIME_OFF_MAX_MS)..=now_ms() + TIME_OFF_MAX_MS;
                let apart = i128::from(time_ms) - i128::from(from_ms);
                ensure!(
                    expected.contains(&time_ms),
                    "partition {partition} gives records a time that is {apart} ms off"
                );
            }
        }
        Ok(())
    }

    /// Writes one record until its partition's leader takes it.
    fn produce(&self, partition: i32, (id, epoch, sequence): (i64, i16, i32)) -> Result<Produced> {
        let mut batch = Batch::of(vec![b"lasting".to_vec()]).produced_by(id, epoch, sequence);
        batch.timestamp_ms = i64::try_from(now_ms())?;
        let body = produce_body(TOPIC, partition, -1, 10_000, &batch.build());
        self.anywhere("a record", |connection| {
            let leaders = requests::leaders(connection, TOPIC)?;
            let leader = *leaders.get(&partition).context("no leader is known")?;
            let answer = Connection::open(leader)?.call(PRODUCE, PRODUCE_VERSION, &body)?;
            let produced = produce_answer(&answer)?;
            ensure!(!TRY_AGAIN.contains(&produced.error), "error {}", produced.error);
            Ok(produced)
        })
        .and_then(|produced| {
            ensure!(produced.error == 0, "partition {partition} is told of error {}", produced.error);
            Ok(produced)
        })
    }

    fn coordinated<T>(&self, group: &str, ask: impl Fn(&mut Connection) -> Result<T>) -> Result<T> {
        self.anywhere(group, |connection| {
            let coordinator = groups::coordinator(connection, group)?;
            ask(&mut Connection::open(coordinator)?)
        })
    }

    /// Asks one node after the other until one answers as it should.
    fn anywhere<T>(&self, what: &str, ask: impl Fn(&mut Connection) -> Result<T>) -> Result<T> {
        let mut got = None;
        let mut last = None;
        let waited = process::wait_until(what, ANSWER_LIMIT, || {
            for address in &self.addresses {
                match Connection::open(*address).and_then(|mut connection| ask(&mut connection)) {
                    Ok(answer) => {
                        got = Some(answer);
                        return Ok(true);
                    }
                    Err(error) => last = Some(error),
                }
            }
            Ok(false)
        });
        match (got, waited) {
            (Some(got), _) => Ok(got),
            (None, waited) => {
                let last = last.map(|error| format!("{error:#}")).unwrap_or_default();
                waited.with_context(|| last)?;
                anyhow::bail!("{what}: no answer")
            }
        }
    }
}
