//! A read that ends in time, also while others hold all memory for answers.

use base::time::Duration;
use broker::fetch as reading;

use crate::context::Context;

/// Reads what is asked for; when there is no memory for that, the least; and when not even for that, nothing.
pub(super) async fn fetch(context: &Context, mut request: reading::FetchRequest) -> reading::Fetched {
    let fetched = context.broker().fetch(request.clone()).await;
    if !fetched.lacks_memory() {
        return fetched;
    }
    request.wait_max = Duration::ZERO;
    request.bytes_max = 1;
    let fetched = context.broker().fetch(request).await;
    if fetched.lacks_memory() {
        tracing::debug!("a reader was sent away: others hold all memory for answers");
    }
    fetched
}
