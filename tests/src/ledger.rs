//! Several idempotent producers against a broker that is killed again and again, and a book of what was promised.
//!
//! Every record has an identity of its own. A producer notes an acknowledgement only when it came; what was in
//! flight when the broker died is sent again with the same sequence numbers, as Kafka's clients do. The check
//! reads everything back: every acknowledged record once and at the offset that was promised, each producer's
//! records in its order, offsets without gap.

mod book;
mod producer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

pub use book::{Book, Checked};

use crate::process;
use crate::wire::{Connection, requests};

/// What is written, and by how many.
#[derive(Clone, Debug)]
pub struct Plan {
    pub topic: String,
    pub partitions: i32,
    pub producers: u32,
    /// Bytes of a record's value, smallest and largest.
    pub value_bytes: (usize, usize),
    /// Records of a batch at most.
    pub batch_records: usize,
    /// Every so many batches one of more than a mebibyte; 0 for none.
    pub large_every: u32,
    /// Batches that one producer has in flight at most.
    pub in_flight: usize,
    /// A pause between batches, so that a run's data stays small.
    pub pause: Duration,
    pub seed: u64,
}

/// Producers at work.
#[derive(Debug)]
pub struct Ledger {
    plan: Plan,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    producers: Vec<JoinHandle<Result<Vec<book::Acked>>>>,
}

impl Ledger {
    /// Creates the topic and starts the producers.
    pub fn start(address: SocketAddr, plan: Plan) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        let configs = [("max.message.bytes", "8000000")];
        let error = requests::create_topic(&mut connection, &plan.topic, plan.partitions, &configs)?;
        ensure!(error == 0, "creating {}: error {error}", plan.topic);
        let partitions = usize::try_from(plan.partitions)?;
        process::wait_until("leaders", Duration::from_secs(30), || {
            requests::has_leaders(&mut connection, &plan.topic, partitions)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let producers = (0..plan.producers)
            .map(|number| {
                let producer =
                    producer::Producer::new(address, plan.clone(), number, Arc::clone(&stop), Arc::clone(&acked));
                thread::spawn(move || producer.run())
            })
            .collect();
        Ok(Self { plan, address, stop, acked, producers })
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Whether a producer has given up; [`Self::finish`] tells why.
    pub fn is_broken(&self) -> bool {
        self.producers.iter().any(JoinHandle::is_finished)
    }

    /// Lets the producers finish what is in flight and returns what they were promised.
    pub fn finish(self) -> Result<Book> {
        self.stop.store(true, Ordering::Relaxed);
        let mut book = Book::new(self.plan.topic.clone(), self.plan.partitions, self.address);
        for producer in self.producers {
            let acked = producer.join().map_err(|_panic| anyhow!("a producer panicked"))??;
            book.add(acked);
        }
        Ok(book)
    }
}

/// A small generator of pseudo-random numbers, so that a run can be repeated from its seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.number() % (high - low + 1)
    }
}
