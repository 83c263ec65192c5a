//! Latencies in a histogram of constant size: buckets grow with the value, so that each is within 1.6 % of it.

use std::time::Duration;

/// Buckets of one power of two.
const STEPS: u64 = 64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Latencies {
    pub(crate) fn note(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket_of(us);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max_us = self.max_us.max(other.max_us);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max(&self) -> u64 {
        self.max_us
    }

    /// In microseconds; 0 when nothing was noted.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share).max(1.0);
        let mut seen = 0_u64;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen as f64 >= rank {
                return value_of(bucket).min(self.max_us);
            }
        }
        self.max_us
    }
}

/// Below `STEPS` one bucket per microsecond, above `STEPS` of them per power of two.
fn bucket_of(us: u64) -> usize {
    let bucket = if us < STEPS {
        us
    } else {
        let power = u64::from(us.ilog2() - STEPS.ilog2());
        STEPS + power * STEPS + ((us >> power) - STEPS)
    };
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn value_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let power = (bucket - STEPS) / STEPS;
    let step = (bucket - STEPS) % STEPS;
    ((STEPS + step + 1) << power) - 1
}

/// Of the numbers that are numbers; 0 of none.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = numbers.iter().copied().filter(|number| number.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_values() {
        for us in (0..5000).chain([10_000, 123_456, 99_999_999]) {
            let largest = value_of(bucket_of(us));
            assert!(us <= largest && largest as f64 <= us as f64 * 1.016 + 1.0, "{us} in a bucket up to {largest}");
        }
    }

    #[test]
    fn percentiles_of_a_line() {
        let mut latencies = Latencies::default();
        for us in 1..=1000 {
            latencies.note(Duration::from_micros(us));
        }
        assert!(latencies.percentile(0.5).abs_diff(500) <= 8);
        assert!(latencies.percentile(0.99).abs_diff(990) <= 16);
        assert_eq!(latencies.percentile(1.0), 1000);
    }

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }
}
