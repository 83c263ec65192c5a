//! Threads that keep cores busy, so that a cluster is seen beside other work.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::{Value, json};

use crate::measure::own_cpu_seconds;

#[derive(Args, Clone, Debug)]
pub(crate) struct BurnLoad {
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
}

impl BurnLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        let threads: Vec<_> = (0..self.threads).map(|_| thread::spawn(move || burn(end))).collect();
        for thread in threads {
            thread.join().map_err(|_panic| anyhow!("a thread panicked"))?;
        }
        Ok(json!({ "cpu_s": own_cpu_seconds()? }))
    }
}

fn burn(end: Instant) {
    let mut number = 1_u64;
    while Instant::now() < end {
        for _ in 0..100_000 {
            number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}
