//! Any bytes on the port: Kafka's own error codes or a closed connection, bounded memory, and a broker that goes on.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::broker::{Broker, Peer, Settings, answers};
use tests::ledger::Chance;
use tests::wire::batch::{HEADER_BYTES, seal};
use tests::wire::requests::{
    self, API_VERSIONS, FETCH, FETCH_VERSION, METADATA, PRODUCE, PRODUCE_VERSION, fetch_answer, fetch_body,
    produce_answer, produce_body,
};
use tests::wire::{Batch, Connection, Reader, Writer};

const CLOSED_LIMIT: Duration = Duration::from_secs(10);

const OFFSET_OUT_OF_RANGE: i16 = 1;
const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_REQUIRED_ACKS: i16 = 21;
const UNSUPPORTED_VERSION: i16 = 35;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_RECORD: i16 = 87;

/// A broker with the topic `t` of one partition.
fn broker() -> Result<Broker> {
    let broker = Settings::new()?.start()?;
    topic(&broker, "t", &[])?;
    Ok(broker)
}

fn topic(broker: &Broker, name: &str, configs: &[(&str, &str)]) -> Result<()> {
    let mut connection = open(broker)?;
    ensure!(requests::create_topic(&mut connection, name, 1, configs)? == 0, "creating {name}");
    // Kafka names a leader before the leader knows.
    tests::process::wait_until("a leader", Duration::from_secs(20), || {
        Ok(requests::list_offset(&mut connection, name, 0, -1)?.0 == 0)
    })
}

fn open(broker: &Broker) -> Result<Connection> {
    Connection::open(broker.address())
}

/// The error code that a batch for partition 0 of `t` is answered with.
fn produce(broker: &Broker, batch: &[u8]) -> Result<i16> {
    produce_to(broker, "t", 0, batch)
}

fn produce_to(broker: &Broker, topic: &str, partition: i32, batch: &[u8]) -> Result<i16> {
    let body = produce_body(topic, partition, -1, 10_000, batch);
    Ok(produce_answer(&open(broker)?.call(PRODUCE, PRODUCE_VERSION, &body)?)?.error)
}

fn one(value: &[u8]) -> Batch {
    Batch::of(vec![value.to_vec()])
}

/// Sends bytes and expects the connection to be closed.
fn expect_closed_after(broker: &Broker, what: &str, bytes: &[u8]) -> Result<()> {
    let mut connection = open(broker)?;
    // The broker may close before it has read all of it.
    let _closed = connection.send_raw(bytes);
    connection.expect_closed(CLOSED_LIMIT).with_context(|| what.to_owned())
}

fn memory_kib(broker: &Broker) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid()?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

#[test]
fn random_bytes_close_the_connection_and_nothing_else() -> Result<()> {
    let mut broker = broker()?;
    let mut chance = Chance::new(11);
    for _ in 0..300 {
        let mut connection = open(&broker)?;
        let bytes: Vec<u8> = (0..chance.between(1, 3000)).map(|_| chance.number().to_le_bytes()[3]).collect();
        let _closed = connection.send_raw(&bytes);
    }
    // With a small plausible length in front, so that the request itself is read.
    for _ in 0..1000 {
        let body: Vec<u8> = (0..chance.between(4, 300)).map(|_| chance.number().to_le_bytes()[5]).collect();
        let mut frame = Writer::new();
        frame.bytes(&body);
        let _closed = open(&broker)?.send_raw(&frame.0);
    }
    broker.assert_healthy()
}

#[test]
fn every_request_key_with_a_random_body_leaves_the_broker_well() -> Result<()> {
    let mut broker = broker()?;
    let mut chance = Chance::new(12);
    for key in 0..95_i16 {
        for version in 0..14_i16 {
            for _ in 0..3 {
                let body: Vec<u8> = (0..chance.between(0, 120)).map(|_| small_or_any(&mut chance)).collect();
                let mut connection = open(&broker)?;
                let _closed = connection.send(key, version, &body);
            }
        }
        ensure!(answers(broker.address()), "no answer after key {key}\n{}", broker.log_tail());
    }
    broker.assert_healthy()
}

/// Small numbers make plausible counts and lengths.
fn small_or_any(chance: &mut Chance) -> u8 {
    let any = chance.number().to_le_bytes()[2];
    if chance.between(0, 2) == 0 { any } else { any % 4 }
}

#[test]
fn lengths_that_cannot_be_close_the_connection() -> Result<()> {
    let mut broker = broker()?;
    let before = memory_kib(&broker)?;
    let api_versions = [0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    for (what, length) in
        [("two gibibytes", i32::MAX), ("negative", -1), ("most negative", i32::MIN), ("200 MiB", 200 << 20)]
    {
        let bytes = [&length.to_be_bytes()[..], &api_versions[..]].concat();
        expect_closed_after(&broker, what, &bytes)?;
    }
    expect_closed_after(&broker, "an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    expect_closed_after(&broker, "a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")?;
    let grown = memory_kib(&broker)?.saturating_sub(before);
    ensure!(grown < 100 << 10, "{grown} KiB more after promises of gibibytes");
    broker.assert_healthy()
}

#[test]
fn unknown_keys_and_versions_close_the_connection() -> Result<()> {
    let mut broker = broker()?;
    for (key, version) in [(999, 0), (-1, 0), (4, 0), (METADATA, 99), (METADATA, -1), (FETCH, 100), (PRODUCE, 99)] {
        let mut connection = open(&broker)?;
        connection.send(key, version, &[0; 40])?;
        connection.expect_closed(CLOSED_LIMIT).with_context(|| format!("key {key} version {version}"))?;
    }
    broker.assert_healthy()
}

/// KIP-511: a version of ApiVersions that is not known is answered in version 0 with error 35.
#[test]
fn unknown_version_of_api_versions_is_answered_e1() -> Result<()> {
    let broker = broker()?;
    let mut connection = open(&broker)?;
    let answer = connection.call(API_VERSIONS, 99, &[0; 10])?;
    let mut reader = Reader(&answer);
    ensure!(reader.i16()? == UNSUPPORTED_VERSION);
    ensure!(reader.count()? >= 1, "no range");
    ensure!(reader.i16()? == API_VERSIONS, "the range of ApiVersions itself");
    // The connection is still good.
    let again = connection.call(API_VERSIONS, 0, &[])?;
    let mut reader = Reader(&again);
    ensure!(reader.i16()? == 0);
    // librdkafka compresses only when Produce is advertised from 0.
    let ranges: Vec<(i16, i16, i16)> =
        (0..reader.count()?).map(|_| Ok((reader.i16()?, reader.i16()?, reader.i16()?))).collect::<Result<_>>()?;
    ensure!(ranges.contains(&(PRODUCE, 0, 13)), "{ranges:?}");
    ensure!(ranges.contains(&(FETCH, 4, 18)), "{ranges:?}");
    Ok(())
}

#[test]
fn broken_batches_get_kafkas_codes_e14() -> Result<()> {
    let mut broker = broker()?;
    ensure!(produce(&broker, &one(b"good").build())? == 0, "a good batch");

    let mut flipped = one(b"flipped").build();
    *flipped.last_mut().context("bytes")? ^= 1;
    ensure!(produce(&broker, &flipped)? == CORRUPT_MESSAGE, "a wrong checksum");

    for magic in [0, 1] {
        let mut old = one(b"old").build();
        old[16] = magic;
        let error = produce(&broker, &old)?;
        ensure!(error == INVALID_RECORD, "magic {magic}: error {error}");
    }

    let two = [one(b"first").build(), one(b"second").build()].concat();
    let error = produce(&broker, &two)?;
    ensure!(error == INVALID_RECORD, "two batches: error {error}");

    let mut counted = one(b"counted").build();
    counted[57..61].copy_from_slice(&9_i32.to_be_bytes());
    seal(&mut counted);
    let error = produce(&broker, &counted)?;
    ensure!(error == INVALID_RECORD, "a count that is not so: error {error}");

    let mut control = one(b"control").build();
    control[22] |= 0x20;
    seal(&mut control);
    let error = produce(&broker, &control)?;
    ensure!(error == INVALID_RECORD, "a control batch: error {error}");

    let mut records = one(b"records").build();
    records.truncate(HEADER_BYTES);
    records.extend_from_slice(&[0xff; 20]);
    seal(&mut records);
    let error = produce(&broker, &records)?;
    // Kafka says -1 here, an error of its own that it did not expect.
    ensure!([-1, CORRUPT_MESSAGE, INVALID_RECORD].contains(&error), "records that cannot be read: error {error}");

    let read = requests::read_all(&mut open(&broker)?, "t", 0, 0)?;
    ensure!(read.len() == 1, "{} records stored of one good batch", read.len());
    broker.assert_healthy()
}

#[test]
fn cut_batches_and_empty_record_sets_are_refused() -> Result<()> {
    let mut broker = broker()?;
    let whole = one(b"whole").build();
    for length in [0, 1, 11, 12, 16, 17, 60, 61, whole.len() - 1] {
        let body = produce_body("t", 0, -1, 10_000, &whole[..length]);
        let mut connection = open(&broker)?;
        connection.send(PRODUCE, PRODUCE_VERSION, &body)?;
        // An error code or a closed connection; never an acknowledgement.
        if let Ok(answer) = connection.answer() {
            ensure!(produce_answer(&answer)?.error != 0, "a batch cut to {length} bytes was taken");
        }
    }
    ensure!(requests::read_all(&mut open(&broker)?, "t", 0, 0)?.is_empty(), "something was stored");
    broker.assert_healthy()
}

#[test]
fn compressed_bombs_do_not_take_memory() -> Result<()> {
    let mut broker = broker()?;
    let before = memory_kib(&broker)?;
    // A gzip member of 1 GiB of zeros is about 1 MiB; here 512 MiB in half of that.
    let mut gzip = std::process::Command::new("sh");
    gzip.args(["-c", "head -c 512M /dev/zero | gzip -9"]);
    let bomb = tests::process::run(&mut gzip, Duration::from_secs(60))?.stdout;
    let mut batch = one(b"").build();
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(&bomb);
    batch[22] |= 1;
    seal(&mut batch);
    let error = produce(&broker, &batch)?;
    ensure!(error == 0 || error == CORRUPT_MESSAGE || error == INVALID_RECORD, "error {error}");
    let grown = memory_kib(&broker)?.saturating_sub(before);
    ensure!(broker.peer() == Peer::Kafka || grown < 200 << 10, "{grown} KiB more");
    // A lookup by time would have to look into the batch.
    requests::list_offset(&mut open(&broker)?, "t", 0, 1_700_000_000_000)?;
    let grown = memory_kib(&broker)?.saturating_sub(before);
    ensure!(broker.peer() == Peer::Kafka || grown < 200 << 10, "{grown} KiB more after a lookup by time");
    broker.assert_healthy()
}

#[test]
fn sequences_and_epochs_are_checked_e14() -> Result<()> {
    let mut broker = broker()?;
    let (id, epoch) = requests::init_producer_id(&mut open(&broker)?)?;
    let batch = |sequence: i32, epoch: i16| {
        Batch::of(vec![b"a".to_vec(), b"b".to_vec()]).produced_by(id, epoch, sequence).build()
    };
    let offset = |batch: &[u8]| -> Result<(i16, i64)> {
        let body = produce_body("t", 0, -1, 10_000, batch);
        let answer = produce_answer(&open(&broker)?.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
        Ok((answer.error, answer.base_offset))
    };
    ensure!(offset(&batch(0, epoch))? == (0, 0), "the first");
    ensure!(offset(&batch(2, epoch))? == (0, 2), "the second");
    ensure!(offset(&batch(0, epoch))? == (0, 0), "a duplicate has its first offset");
    ensure!(offset(&batch(2, epoch))? == (0, 2), "a duplicate has its first offset");
    ensure!(offset(&batch(8, epoch))?.0 == OUT_OF_ORDER_SEQUENCE, "a gap");
    for sequence in [4, 6, 8, 10, 12] {
        ensure!(offset(&batch(sequence, epoch))? == (0, i64::from(sequence)), "sequence {sequence}");
    }
    ensure!(offset(&batch(4, epoch))? == (0, 4), "the fifth from the end is still known");
    let known = offset(&batch(2, epoch))?;
    ensure!(known == (0, 2) || (broker.peer() == Peer::Kafka && known.0 == OUT_OF_ORDER_SEQUENCE), "{known:?}");
    ensure!(offset(&batch(0, epoch + 1))? == (0, 14), "a new epoch begins at 0");
    ensure!(offset(&batch(14, epoch))?.0 == INVALID_PRODUCER_EPOCH, "an old epoch");
    ensure!(requests::list_offset(&mut open(&broker)?, "t", 0, -1)? == (0, 16), "nothing was stored twice");
    broker.assert_healthy()
}

#[test]
fn topics_acks_and_sizes_get_kafkas_codes_e14() -> Result<()> {
    let mut broker = broker()?;
    topic(&broker, "small", &[("max.message.bytes", "1000")])?;
    ensure!(produce_to(&broker, "absent", 0, &one(b"x").build())? == UNKNOWN_TOPIC_OR_PARTITION, "an absent topic");
    ensure!(produce_to(&broker, "t", 7, &one(b"x").build())? == UNKNOWN_TOPIC_OR_PARTITION, "an absent partition");
    ensure!(produce_to(&broker, "t", -1, &one(b"x").build())? == UNKNOWN_TOPIC_OR_PARTITION, "partition -1");
    ensure!(produce_to(&broker, "small", 0, &one(&[b'x'; 2000]).build())? == MESSAGE_TOO_LARGE, "a message too large");
    ensure!(produce_to(&broker, "small", 0, &one(&[b'x'; 500]).build())? == 0, "a message that fits");

    let body = produce_body("t", 0, 2, 10_000, &one(b"x").build());
    let answer = produce_answer(&open(&broker)?.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
    ensure!(answer.error == INVALID_REQUIRED_ACKS, "acks=2: error {}", answer.error);

    let mut connection = open(&broker)?;
    let fetched = fetch_answer(&connection.call(FETCH, FETCH_VERSION, &fetch_body("t", 0, 500, 0, 1000))?)?;
    ensure!(fetched.error == OFFSET_OUT_OF_RANGE, "past the end: error {}", fetched.error);
    let fetched = fetch_answer(&connection.call(FETCH, FETCH_VERSION, &fetch_body("absent", 0, 0, 0, 1000))?)?;
    ensure!(fetched.error == UNKNOWN_TOPIC_OR_PARTITION, "an absent topic: error {}", fetched.error);
    broker.assert_healthy()
}

/// acks=0 is never answered; what is wrong with it closes the connection.
#[test]
fn acks_0_is_not_answered_e14() -> Result<()> {
    let mut broker = broker()?;
    let mut connection = open(&broker)?;
    connection.send(PRODUCE, PRODUCE_VERSION, &produce_body("t", 0, 0, 10_000, &one(b"x").build()))?;
    connection.send(METADATA, 1, &[0, 0, 0, 0])?;
    let (correlation, _metadata) = connection.numbered_answer()?;
    ensure!(correlation == 2, "the first answer is that of request {correlation}");
    connection.send(PRODUCE, PRODUCE_VERSION, &produce_body("absent", 0, 0, 10_000, &one(b"x").build()))?;
    connection.expect_closed(CLOSED_LIMIT).context("a refused batch with acks=0")?;
    broker.assert_healthy()
}

/// Answers come in the order of the requests, also when a long poll is among them.
#[test]
fn answers_come_in_the_order_of_requests_e14() -> Result<()> {
    let mut broker = broker()?;
    let mut connection = open(&broker)?;
    let batch = one(b"x").build();
    for round in 0..20 {
        for _ in 0..5 {
            connection.send(PRODUCE, PRODUCE_VERSION, &produce_body("t", 0, -1, 10_000, &batch))?;
        }
        // Nothing at this offset yet: the fetch waits.
        connection.send(FETCH, FETCH_VERSION, &fetch_body("t", 0, (round + 1) * 5, 50, 1000))?;
        connection.send(METADATA, 1, &[0, 0, 0, 0])?;
    }
    for expected in 1..=20 * 7 {
        let (correlation, _answer) = connection.numbered_answer()?;
        ensure!(correlation == expected, "answer {correlation} where {expected} is due");
    }
    broker.assert_healthy()
}

/// A fetch with nothing to give waits for its time and no longer, and one that gets something comes at once.
#[test]
fn long_polls_end_in_time_e5() -> Result<()> {
    let broker = broker()?;
    let mut reader = open(&broker)?;
    reader.send(FETCH, FETCH_VERSION, &fetch_body("t", 0, 0, 1000, 1000))?;
    let answer = fetch_answer(&reader.answer()?)?;
    ensure!(answer.error == 0 && answer.records.is_empty(), "an empty answer: error {}", answer.error);
    reader.send(FETCH, FETCH_VERSION, &fetch_body("t", 0, 0, 20_000, 1000))?;
    reader.set_limit(Duration::from_secs(10))?;
    ensure!(produce(&broker, &one(b"woken").build())? == 0);
    let answer = fetch_answer(&reader.answer().context("a reader is woken by an append")?)?;
    ensure!(!answer.records.is_empty(), "the record that woke it");
    // A batch larger than asked for comes whole.
    ensure!(produce(&broker, &one(&[b'x'; 50_000]).build())? == 0);
    let answer = fetch_answer(&reader.call(FETCH, FETCH_VERSION, &fetch_body("t", 0, 1, 0, 100))?)?;
    ensure!(answer.records.len() > 50_000, "{} bytes of a large batch", answer.records.len());
    Ok(())
}

#[test]
fn requests_that_end_in_the_middle_leave_nothing_behind() -> Result<()> {
    let mut broker = broker()?;
    if broker.peer() == Peer::Kafka {
        // Kafka takes the memory that was promised, and is out of it.
        return Ok(());
    }
    let before = memory_kib(&broker)?;
    let mut held = Vec::new();
    for number in 0..200_i32 {
        let mut connection = open(&broker)?;
        // A promise of 50 MiB, of which a little comes.
        let mut start = Writer::new();
        start.i32(50 << 20).i16(PRODUCE).i16(PRODUCE_VERSION).i32(number).string("half").null_string();
        connection.send_raw(&start.0)?;
        held.push(connection);
    }
    ensure!(answers(broker.address()), "no answer beside requests that stand still");
    let grown = memory_kib(&broker)?.saturating_sub(before);
    ensure!(broker.peer() == Peer::Kafka || grown < 100 << 10, "{grown} KiB for promises");
    drop(held);
    ensure!(produce(&broker, &one(b"after").build())? == 0);
    broker.assert_healthy()
}

#[test]
fn negative_and_huge_counts_in_bodies_close_the_connection() -> Result<()> {
    let mut broker = broker()?;
    let before = memory_kib(&broker)?;
    let mut cases = Vec::new();
    for count in [i32::MAX, -2, 1 << 24] {
        let mut topics = Writer::new();
        topics.i32(count).string("t");
        cases.push((METADATA, 1, topics.0));
        let mut produce = Writer::new();
        produce.null_string().i16(-1).i32(1000).i32(count).string("t");
        cases.push((PRODUCE, PRODUCE_VERSION, produce.0));
        let mut fetch = Writer::new();
        fetch.i32(-1).i32(0).i32(1).i32(1000).i8(0).i32(0).i32(-1).i32(count).string("t");
        cases.push((FETCH, FETCH_VERSION, fetch.0));
        // Joining a group with so many protocols.
        let mut join = Writer::new();
        join.string("g").i32(10_000).i32(10_000).string("").null_string().string("consumer").i32(count);
        cases.push((11, 5, join.0));
    }
    for (key, version, body) in cases {
        let mut connection = open(&broker)?;
        connection.send(key, version, &body)?;
        // Some are answered as empty by Kafka; none may hang or grow.
        connection.set_limit(Duration::from_secs(5))?;
        let _closed = connection.answer();
    }
    let grown = memory_kib(&broker)?.saturating_sub(before);
    ensure!(broker.peer() == Peer::Kafka || grown < 100 << 10, "{grown} KiB more");
    broker.assert_healthy()
}

#[test]
fn names_of_clients_and_groups_may_be_anything() -> Result<()> {
    let mut broker = broker()?;
    let mut connection = open(&broker)?;
    for name in ["", "\u{0}", "a\nb", "\u{202e}", &"x".repeat(30_000)] {
        let mut frame = Writer::new();
        frame.i32(0).i16(METADATA).i16(1).i32(1).string(name).i32(0);
        let length = frame.0.len() - 4;
        frame.patch_i32(0, length);
        let mut other = open(&broker)?;
        other.send_raw(&frame.0)?;
        other.answer().with_context(|| format!("a client id of {} bytes", name.len()))?;
    }
    // Nothing of it is written raw into the log's lines.
    let mut log = std::io::sink();
    log.write_all(broker.log().as_bytes())?;
    ensure!(!broker.log().contains("a\nb"), "a client id breaks a line of the log");
    ensure!(!requests::brokers(&mut connection)?.is_empty());
    broker.assert_healthy()
}
