//! How much of a stream may be sent before its answers come.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// What may be sent of one stream and have no answer yet.
pub(crate) const WINDOW_BYTES: usize = 8 << 20;
/// What a request of a stream takes of the window at least, so that their number is bounded, too.
const WINDOW_SHARE_MIN: usize = 1 << 10;
/// Requests of one stream that have no answer.
pub(crate) const WINDOW_FRAMES: usize = WINDOW_BYTES / WINDOW_SHARE_MIN;

/// What was sent of a stream and has no answer.
pub(super) struct Window {
    room: Semaphore,
    sent: Mutex<VecDeque<u32>>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { room: Semaphore::new(WINDOW_BYTES), sent: Mutex::default() }
    }

    /// Waits until `bytes` more may be sent; what is larger than the window goes alone.
    pub(super) async fn enter(&self, bytes: usize) {
        let bytes = u32::try_from(bytes.clamp(WINDOW_SHARE_MIN, WINDOW_BYTES)).expect("the window is a few megabytes");
        let permit = self.room.acquire_many(bytes).await.expect("the window is never closed");
        permit.forget();
        self.sent.lock().push_back(bytes);
    }

    pub(super) fn answered(&self) {
        if let Some(bytes) = self.sent.lock().pop_front() {
            self.room.add_permits(bytes as usize);
        }
    }
}
