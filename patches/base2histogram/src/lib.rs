//! Stands in for the crate of this name, with what openraft uses of it. The original builds lookup tables of 27 MB at its
//! first use, more than all else that an idle broker holds; this one counts per power of two, which is enough for
//! figures that nobody reads in production. `Cargo.toml` of the workspace puts it in the original's place.

use std::fmt;
use std::marker::PhantomData;

const BUCKETS: usize = 65;

/// Counts values by their number of bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    _of: PhantomData<T>,
}

impl<T> Histogram<T> {
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], _of: PhantomData }
    }

    pub const fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    pub const fn record_n(&mut self, value: u64, times: u64) {
        let bits = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bits] = self.counts[bits].saturating_add(times);
    }

    /// Percentiles as the smallest value of the bucket that they lie in.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        let at = |permille: u64| {
            let rank = u128::from(samples) * u128::from(permille) / 1_000;
            let mut seen = 0_u128;
            let bits = self.counts.iter().position(|count| {
                seen += u128::from(*count);
                seen > rank
            });
            bits.map_or(0, |bits| if bits == 0 { 0 } else { 1 << (bits - 1) })
        };
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the values of a histogram lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples, p50 {}, p99 {}, p99.9 {}", self.samples, self.p50, self.p99, self.p99_9)
    }
}

/// Several histograms to be shown together.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    lines: Vec<(String, Histogram)>,
}

impl AsciiChart {
    #[must_use]
    pub const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.lines.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.lines {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_lower_ends_of_buckets() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats(), PercentileStats::default());
        histogram.record_n(5, 98);
        histogram.record(1_000);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p99, stats.p99_9), (100, 4, 1 << 63, 1 << 63));
    }
}
