//! Who leads after a node whose process has ended.
//!
//! A connection that ends says more than silence does: mostly it is a process that ended. The groups which that node led
//! elect as soon as the lease that they gave it is over, instead of a random time later, and their members one after the
//! other, so that none takes votes from another. Whatever the end of the connection meant, a leader that goes on is safe: its
//! lease holds, and its heartbeats renew it.

use std::sync::Arc;

use base::time::Duration;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use record::NodeId;

use crate::members::heirs;
use crate::node::Node;

/// How long a member leaves the election to the one before it.
const TURN: Duration = Duration::from_millis(75);

/// Sees to the groups that `gone` led; returns when each has a leader or was given up.
pub(crate) async fn after(node: Arc<Node>, gone: NodeId) {
    let me = node.id();
    let led = node.shards.replicas().into_iter().filter(|replica| replica.leadership().borrow().leader == Some(gone));
    let mut successions = FuturesUnordered::new();
    for replica in led {
        let place = heirs(&node, &replica, gone).into_iter().zip(0..).find(|(heir, _)| *heir == me);
        if let Some((_, place)) = place {
            successions.push(async move { replica.succeed(gone, TURN * place).await });
        }
    }
    while successions.next().await.is_some() {}
}
