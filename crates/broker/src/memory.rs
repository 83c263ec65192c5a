//! The broker's part of the memory budget: requests that are being read, and answers that are being sent.
//!
//! A protocol acquires from [`Memory::requests`] as the bytes of a request arrive and gives them back when the request
//! is done; reading a socket stops while the share is used up. What a fetch hands out is counted by the permit that
//! comes with it.

use base::memory::Share;

/// One of so many parts of the memory for answers is kept for small ones.
const SMALL_PART: usize = 16;

/// Shares of the broker's budget.
#[derive(Debug, Clone)]
pub struct Memory {
    requests: Share,
    answers: Share,
    small_answers: Share,
}

impl Memory {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let half = usize::try_from(bytes_max / 2).unwrap_or(usize::MAX);
        let small = half / SMALL_PART;
        Self {
            requests: Share::new("requests", half),
            answers: Share::new("answers", half - small),
            small_answers: Share::new("small answers", small),
        }
    }

    /// For the bytes of requests, from the first byte read until the answer is made.
    pub fn requests(&self) -> &Share {
        &self.requests
    }

    /// For the bytes of answers that are held in memory until they are sent.
    pub fn answers(&self) -> &Share {
        &self.answers
    }

    /// For answers to fetches that begin with a small batch, while the other memory for answers is taken: they wait
    /// for none but each other.
    pub fn small_answers(&self) -> &Share {
        &self.small_answers
    }
}
