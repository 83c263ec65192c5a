//! A read that ends in time, also while others hold all memory for answers.

use base::time::{Duration, timeout};
use broker::fetch as reading;

use crate::context::Context;
use crate::limits::FETCH_GRACE;

/// Reads within the time that the reader waits and a little more, though others may hold all memory for answers: the
/// second time only the least, and then nothing.
pub(super) async fn fetch(context: &Context, mut request: reading::FetchRequest) -> Option<reading::Fetched> {
    let fetched = timeout(request.wait_max + FETCH_GRACE, context.broker().fetch(request.clone())).await;
    if let Ok(fetched) = fetched {
        return Some(fetched);
    }
    request.wait_max = Duration::ZERO;
    request.bytes_max = 1;
    let fetched = timeout(FETCH_GRACE, context.broker().fetch(request)).await.ok();
    if fetched.is_none() {
        tracing::debug!("a reader was sent away: others hold all memory for answers");
    }
    fetched
}
