//! Asking a donor, one thing at a time and no faster than allowed.

use std::io;
use std::ops::Range;

use base::time::{Duration, Instant, now, sleep_until};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use record::ObjectKey;

use super::install::InstallError;
use super::progress::InstallProgress;
use super::wire::{self, Answer, Ask, Later};

/// The way to one member that is asked.
pub trait Donor: Send + Sync {
    /// Sends a request to [`crate::Replica::answer_pull`] of that member and gives its answer. MUST end within a bounded
    /// time.
    fn ask(&self, request: Bytes) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// Asks one donor, for one install or for one object.
pub(crate) struct Puller<'a> {
    donor: &'a dyn Donor,
    progress: &'a InstallProgress,
    bytes_per_second: Option<u64>,
    /// Before that nothing is asked, so that the rate is kept.
    next_at: Instant,
}

impl<'a> Puller<'a> {
    pub(crate) fn new(donor: &'a dyn Donor, progress: &'a InstallProgress, bytes_per_second: Option<u64>) -> Self {
        Self { donor, progress, bytes_per_second, next_at: now() }
    }

    /// Some bytes of an object, which has them all; none if it is not there.
    pub(crate) async fn object(
        &mut self,
        pin: Option<u64>,
        object: ObjectKey,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, InstallError> {
        let mut found = BytesMut::new();
        let mut position = range.start;
        while position < range.end {
            let bytes = u32::try_from(range.end - position).unwrap_or(u32::MAX);
            match self.ask(Ask::Object { pin, object, position, bytes }).await? {
                Answer::Part(part) if !part.is_empty() && part.len() as u64 <= range.end - position => {
                    position += part.len() as u64;
                    if found.is_empty() && position == range.end {
                        return Ok(Some(part));
                    }
                    found.extend_from_slice(&part);
                }
                Answer::Gone => return Ok(None),
                Answer::Later(reason) => return Err(later(reason)),
                _ => return Err(InstallError::Answer(format!("the object {object} ends early"))),
            }
        }
        Ok(Some(found.freeze()))
    }

    /// The answer, if it is one to what was asked.
    pub(super) async fn ask(&mut self, ask: Ask) -> Result<Answer, InstallError> {
        sleep_until(self.next_at).await;
        let answer = self.donor.ask(wire::encode_ask(ask)).await.map_err(InstallError::Donor)?;
        let bytes = answer.len() as u64;
        if let Some(rate) = self.bytes_per_second {
            let micros = bytes.saturating_mul(1_000_000) / rate.max(1);
            self.next_at = self.next_at.max(now()) + Duration::from_micros(micros);
        }
        let answer = wire::decode_answer(answer).map_err(|error| InstallError::Answer(error.to_string()))?;
        let fits = matches!(
            (ask, &answer),
            (_, Answer::Later(_))
                | (Ask::Begin { .. }, Answer::Offer(_))
                | (Ask::Files { .. }, Answer::Files { .. })
                | (Ask::File { .. } | Ask::Object { .. }, Answer::Part(_) | Answer::Gone)
                | (Ask::Entries { .. }, Answer::Entries { .. })
                | (Ask::Checkpoint { .. }, Answer::Chunks { .. })
                | (Ask::End { .. }, Answer::Ended)
        );
        if !fits {
            return Err(InstallError::Answer(format!("no answer to {ask:?}")));
        }
        if !matches!(ask, Ask::Begin { .. } | Ask::Files { .. } | Ask::End { .. }) {
            self.progress.add(bytes);
        }
        Ok(answer)
    }
}

/// What a donor that has nothing now leads to.
pub(super) fn later(reason: Later) -> InstallError {
    InstallError::Later(reason)
}

/// Something else than what [`Puller::ask`] lets through.
pub(super) fn unexpected() -> InstallError {
    InstallError::Answer("an answer to something else".to_owned())
}
