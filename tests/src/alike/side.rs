//! One of the brokers that are asked the same.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::step::{Answer, Place, Step};
use crate::broker::{Broker, Peer, Settings};
use crate::process;
use crate::wire::requests::{self, PRODUCE, PRODUCE_VERSION, produce_answer, produce_body};
use crate::wire::{Connection, FullRecord, admin, changes, records};

/// Idempotent producers.
pub(super) const PRODUCERS: usize = 3;
/// Between two looks at what is to go, and at what is to be compacted.
pub(super) const LOOK_MS: u64 = 150;
const LIMIT: Duration = Duration::from_secs(30);
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// A broker, and what it told clients that they go on with.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) broker: Broker,
    connection: Connection,
    producers: Vec<(i64, i16)>,
}

impl Side {
    pub(super) fn start(peer: Peer) -> Result<Self> {
        let mut settings = Settings::of(peer);
        let (prefix, look) = (if peer == Peer::Kafka { "" } else { "kafka." }, LOOK_MS.to_string());
        let looks = ["log.retention.check.interval.ms", "log.cleaner.backoff.ms"]
            .map(|key| (format!("{prefix}{key}"), look.clone()));
        settings.properties.extend(looks);
        settings.properties.push((format!("{prefix}auto.create.topics.enable"), "false".to_owned()));
        if peer == Peer::Kafka {
            settings.properties.push(("log.initial.task.delay.ms".to_owned(), "100".to_owned()));
        }
        let broker = settings.start()?;
        let mut connection = Connection::open(broker.address())?;
        let producers = (0..PRODUCERS).map(|_| requests::init_producer_id(&mut connection)).collect::<Result<_>>()?;
        Ok(Self { broker, connection, producers })
    }

    /// Sends one request. What it changes is there for all that come behind when this returns.
    pub(super) fn ask(&mut self, step: &Step) -> Result<Answer> {
        let connection = &mut self.connection;
        Ok(match step {
            Step::Create { topic, partitions, copies, configs } => {
                let configs: Vec<(&str, &str)> = configs.iter().map(|(key, value)| (&**key, &**value)).collect();
                let error = requests::create_topic_replicated(connection, topic, *partitions, *copies, &configs)?;
                if error == 0 {
                    let count = usize::try_from(*partitions)?;
                    process::wait_until("leaders", LIMIT, || requests::has_leaders(connection, topic, count))?;
                    for partition in 0..*partitions {
                        process::wait_until("the new topic", LIMIT, || {
                            Ok(changes::find_offset(connection, topic, partition, -1)?.0 == 0)
                        })?;
                    }
                }
                Answer::of(error, Answer::Done)
            }
            Step::Delete { topic } => {
                let error = requests::delete_topic(connection, topic)?;
                if error == 0 {
                    process::wait_until("the end of a topic", LIMIT, || {
                        Ok(changes::find_offset(connection, topic, 0, -1)?.0 == UNKNOWN_TOPIC_OR_PARTITION)
                    })?;
                }
                Answer::of(error, Answer::Done)
            }
            Step::Alter { topic, operations, is_asked } => {
                Answer::of(changes::alter(connection, topic, operations, *is_asked)?, Answer::Done)
            }
            Step::Produce { to, records, is_compressed, by } => {
                let by = by.map(|by| {
                    let (id, epoch) = self.producers[by.producer];
                    records::Producer { id, epoch, sequence: by.sequence }
                });
                let batch = records::build(records, by, *is_compressed)?;
                let body = produce_body(&to.topic, to.partition, -1, 30_000, &batch);
                // On a connection of its own: of one that is refused, what comes behind it on the same would depend.
                let mut connection = Connection::open(self.broker.address())?;
                let answer = produce_answer(&connection.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
                Answer::of(answer.error, Answer::Offset(answer.base_offset))
            }
            Step::DeleteRecords { of, before } => {
                let (error, first) = changes::delete_records(connection, &of.topic, of.partition, *before)?;
                Answer::of(error, Answer::Offset(first))
            }
            Step::Find { of, timestamp } => {
                let (error, timestamp, offset) = changes::find_offset(connection, &of.topic, of.partition, *timestamp)?;
                Answer::of(error, Answer::Found { timestamp, offset })
            }
            Step::Fetch { of, offset } => {
                let fetch = records::fetch(connection, &of.topic, of.partition, *offset)?;
                let first = fetch.batches.records.into_iter().find(|record| record.offset >= *offset);
                Answer::of(fetch.error, Answer::Records(first.into_iter().collect()))
            }
            Step::Read { of } => Answer::Records(self.read(of)?),
            Step::Describe { topic } => Answer::Configs(admin::topic_configs(connection, topic)?.into_iter().collect()),
        })
    }

    /// Where a partition begins.
    pub(super) fn first(&mut self, of: &Place) -> Result<i64> {
        let (error, _, first) = changes::find_offset(&mut self.connection, &of.topic, of.partition, -2)?;
        ensure!(error == 0, "the beginning of {of:?}: error {error}");
        Ok(first)
    }

    /// All records of a partition.
    pub(super) fn read(&mut self, of: &Place) -> Result<Vec<FullRecord>> {
        let first = self.first(of)?;
        records::fetch_all(&mut self.connection, &of.topic, of.partition, first)
    }
}
