//! One bound on memory, divided into named shares.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shares are counted in units of this many bytes, so that a share may exceed 4 GiB.
const UNIT_BYTES: usize = 64;

/// The budget of a process. Shares are carved out of it once, at start.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    left: usize,
}

/// A share asked for more than the budget has left.
#[derive(Debug, thiserror::Error)]
#[error("memory share {name} wants {wanted} bytes and {left} of {bytes_max} are left")]
pub struct BudgetExceeded {
    name: &'static str,
    wanted: usize,
    left: usize,
    bytes_max: usize,
}

impl Budget {
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, left: bytes_max }
    }

    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Sets `bytes` aside under `name`.
    ///
    /// # Errors
    /// When that much is not left.
    pub fn share(&mut self, name: &'static str, bytes: usize) -> Result<Share, BudgetExceeded> {
        let (left, bytes_max) = (self.left, self.bytes_max);
        self.left = left.checked_sub(bytes).ok_or(BudgetExceeded { name, wanted: bytes, left, bytes_max })?;
        Ok(Share::new(name, bytes))
    }
}

/// A named part of the budget. Cheap to clone; waiters are served in order.
#[derive(Debug, Clone)]
pub struct Share {
    name: &'static str,
    units_max: usize,
    semaphore: Arc<Semaphore>,
}

/// Bytes held of a share; given back when dropped.
#[derive(Debug)]
#[must_use = "the bytes are given back when the permit is dropped"]
pub struct Permit {
    units: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// A share outside any budget, for tests and tools.
    #[must_use]
    pub fn new(name: &'static str, bytes: usize) -> Self {
        let units_max = (bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { name, units_max, semaphore: Arc::new(Semaphore::new(units_max)) }
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.units_max * UNIT_BYTES
    }

    #[must_use]
    pub fn used(&self) -> usize {
        (self.units_max - self.semaphore.available_permits().min(self.units_max)) * UNIT_BYTES
    }

    /// Waits for `bytes`. A wish above the whole share is cut to the whole share, so that it is
    /// served alone instead of never.
    pub async fn acquire(&self, bytes: usize) -> Permit {
        let units = self.units(bytes);
        let units = Arc::clone(&self.semaphore).acquire_many_owned(units).await;
        Permit { units: Some(units.expect("the semaphore of a share is never closed")) }
    }

    /// `bytes` at once, or nothing.
    #[must_use]
    pub fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let units = self.units(bytes);
        let units = Arc::clone(&self.semaphore).try_acquire_many_owned(units).ok()?;
        Some(Permit { units: Some(units) })
    }

    fn units(&self, bytes: usize) -> u32 {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.units_max);
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

impl Permit {
    /// A permit of nothing.
    pub fn empty() -> Self {
        Self { units: None }
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.units.as_ref().map_or(0, |units| units.num_permits() * UNIT_BYTES)
    }

    /// Adds what `other` holds of the same share to this permit.
    pub fn merge(&mut self, other: Self) {
        match (&mut self.units, other.units) {
            (Some(mine), Some(more)) => mine.merge(more),
            (mine @ None, more) => *mine = more,
            (Some(_), None) => {}
        }
    }

    /// Takes about `bytes` out of this permit, or all of it.
    pub fn split(&mut self, bytes: usize) -> Self {
        let Some(mine) = &mut self.units else { return Self::empty() };
        let units = bytes.div_ceil(UNIT_BYTES).min(mine.num_permits());
        Self { units: mine.split(units) }
    }
}

/// Forbids transparent huge pages to the whole process: with large buffers that come and go they
/// take two thirds of the CPU for clearing pages.
///
/// # Errors
/// When the kernel refuses.
pub fn disable_transparent_huge_pages() -> std::io::Result<()> {
    rustix::thread::disable_transparent_huge_pages(true).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget() {
        let mut budget = Budget::new(1_000);
        assert!(budget.share("a", 600).is_ok());
        assert!(budget.share("b", 600).is_err());
        assert!(budget.share("c", 400).is_ok());
    }

    #[tokio::test]
    async fn a_permit_gives_back_what_it_held() {
        let share = Share::new("test", 6_400);
        let first = share.acquire(6_400).await;
        assert_eq!(share.used(), 6_400);
        assert!(share.try_acquire(1).is_none());
        drop(first);
        assert_eq!(share.used(), 0);
        // More than the share: the whole share.
        assert_eq!(share.acquire(1_000_000).await.bytes(), 6_400);
    }

    #[tokio::test]
    async fn permits_merge_and_split() {
        let share = Share::new("test", 6_400);
        let mut permit = Permit::empty();
        permit.merge(share.acquire(640).await);
        permit.merge(share.acquire(640).await);
        assert_eq!(permit.bytes(), 1_280);
        drop(permit.split(640));
        assert_eq!(share.used(), 640);
    }
}
