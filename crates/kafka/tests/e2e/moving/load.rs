//! Clients that go on while partitions move: they go where they are sent, and retry what clients retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::time::{Duration, sleep};
use bytes::Bytes;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use record::{BatchHeader, Limits, records};

use crate::support::{Client, fetch_request, produce_request, stamped};

/// Offsets and values of what a fetch gave.
pub(super) fn read(data: Option<&Bytes>) -> Vec<(i64, Bytes)> {
    let mut rest = data.cloned().unwrap_or_default();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let bytes = BatchHeader::parse(&rest).expect("a batch").total_bytes().expect("a length");
        let batch = rest.split_to(bytes.min(rest.len()));
        for record in records(&batch, Limits::default()).expect("records") {
            let record = record.expect("a record");
            found.push((record.offset.0, record.value.expect("a value")));
        }
    }
    found
}

/// A client that goes from node to node.
struct Roaming {
    env: base::Env,
    addresses: Vec<std::net::SocketAddr>,
    place: usize,
    client: Option<Client>,
}

impl Roaming {
    fn new(addresses: Vec<std::net::SocketAddr>) -> Self {
        Self { env: base::Env::real(), addresses, place: 0, client: None }
    }

    /// The connection, or a try to have one to the next node; none while that is not there.
    async fn connected(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            self.place = (self.place + 1) % self.addresses.len();
            self.client = Client::try_connect(&self.env, self.addresses[self.place]).await;
            if self.client.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        }
        self.client.as_mut()
    }

    /// On to the next node.
    fn leave(&mut self) {
        self.client = None;
    }
}

/// An idempotent producer with several requests under way, which goes where it is sent and sends again what was refused,
/// in order. Its records are its numbers. What it was told, by number.
pub(super) async fn write(addresses: Vec<std::net::SocketAddr>, partition: i32, stop: Arc<AtomicBool>) -> Vec<i64> {
    const WINDOW: usize = 3;
    let id = 1_000 + i64::from(partition);
    // What was there before it began.
    let mut told: Vec<i64> = (0..20).collect();
    let (mut client, mut refusals) = (Roaming::new(addresses), 0_usize);
    while !stop.load(Ordering::Acquire) {
        let Some(connected) = client.connected().await else { continue };
        let first = told.len();
        let answers = async {
            for sequence in first..first + WINDOW {
                let value = sequence.to_string();
                let sequence = i32::try_from(sequence).expect("small");
                let batch = stamped(id, 0, sequence, &[value.as_bytes()]);
                let request = produce_request(-1, "t", partition, Some(batch));
                let bytes = connected.request(9, 9, &request);
                if !connected.try_send_raw(&bytes).await {
                    return None;
                }
            }
            let mut answers = Vec::new();
            for behind in (0..WINDOW).rev() {
                let behind = i32::try_from(behind).expect("small");
                let mut answer = connected.try_next::<ProduceRequest>(9, behind).await?;
                answers.push(answer.responses.remove(0).partition_responses.remove(0));
            }
            Some(answers)
        };
        let Some(answers) = answers.await else {
            client.leave();
            continue;
        };
        let mut refused = 0;
        for answer in answers {
            match answer.error_code {
                0 if refused == 0 => told.push(answer.base_offset),
                // What became of the one before was not known: it was appended.
                0 if refused == 7 => {}
                // The ones behind a refused one: clients send all of them again.
                3 | 6 | 7 | 19 | 45 => refused = answer.error_code,
                code => panic!("partition {partition}, number {}: {code} at {}", told.len(), answer.base_offset),
            }
        }
        if refused != 0 {
            // Often on the connection on which it was refused: the same node may lead where it goes on.
            refusals += 1;
            if refusals % 3 != 0 {
                client.leave();
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
    told
}

/// Follows a partition from its begin until its producer has stopped and all was read.
pub(super) async fn follow(addresses: Vec<std::net::SocketAddr>, partition: i32, stop: Arc<AtomicBool>) -> Vec<Bytes> {
    let (mut values, mut client) = (Vec::<Bytes>::new(), Roaming::new(addresses));
    loop {
        let was_stopped = stop.load(Ordering::Acquire);
        let Some(connected) = client.connected().await else { continue };
        let offset = i64::try_from(values.len()).expect("small");
        let request = fetch_request(&[("t", &[(partition, offset)])]).with_max_wait_ms(100);
        let bytes = connected.request(12, 12, &request);
        let answer =
            if connected.try_send_raw(&bytes).await { connected.try_next::<FetchRequest>(12, 0).await } else { None };
        let Some(mut answer) = answer else {
            client.leave();
            continue;
        };
        let found = answer.responses.remove(0).partitions.remove(0);
        match found.error_code {
            0 => {}
            3 | 6 | 56 | 74 | 75 => {
                client.leave();
                sleep(Duration::from_millis(10)).await;
                continue;
            }
            code => panic!("partition {partition} at {offset}: {code}"),
        }
        for (at, value) in read(found.records.as_ref()).into_iter().filter(|(at, _)| *at >= offset) {
            assert_eq!(usize::try_from(at), Ok(values.len()), "dense");
            values.push(value);
        }
        if was_stopped && i64::try_from(values.len()) == Ok(found.high_watermark) {
            return values;
        }
    }
}
