//! How a node without an identity comes to one: it founds a cluster, or is taken in by the one that the
//! configured addresses lead to.
//!
//! Every node may be configured with the same list of addresses, its own among them, and they may start
//! in any order. Whoever finds a cluster at one of them asks to be taken in. When none of them has one,
//! the node that stands first in the list founds it, but only once all of them answer: one that is
//! silent may have a cluster that the others have forgotten with their disks.

use std::io;

use base::time::{Duration, sleep, timeout};
use record::ShardId;
use shard::codec::decode;
use storage::Payload;

use crate::messages::{Join, Joined, Request};
use crate::peers::{Peers, Subject};

/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// One round in so many is reported while there is nothing new.
const ROUNDS_PER_REPORT: u64 = 20;
/// How long being taken in may take.
const JOIN_WAIT_MAX: Duration = Duration::from_secs(15);

/// A host and a port.
pub(crate) type Address = (String, u16);

/// What came of the search for a cluster.
#[derive(Debug)]
pub(crate) enum Settled {
    /// There is none, and this node is the one to found it.
    Found,
    Joined(Joined),
}

/// Who was found at an address.
enum At {
    /// This very process.
    Me,
    /// A node that has no cluster either.
    Stray,
    Member(Joined),
}

/// Searches until there is a cluster. Errors are told and tried again: what is wrong may be mended
/// elsewhere meanwhile.
pub(crate) async fn settle(peers: &Peers, addresses: &[Address], join: &Join) -> Settled {
    let request = Request::Join(join.clone());
    let mut round: u64 = 0;
    loop {
        let (mut first_is_me, mut silent) = (false, 0_usize);
        for (place, (host, port)) in addresses.iter().enumerate() {
            match ask(peers, host, *port, &request).await {
                Ok(At::Me) => first_is_me |= place == 0,
                Ok(At::Stray) => {}
                Ok(At::Member(joined)) => return Settled::Joined(joined),
                Err(error) => {
                    silent += 1;
                    if round.is_multiple_of(ROUNDS_PER_REPORT) {
                        tracing::warn!(host, port, %error, "no way into a cluster here yet, trying on");
                    }
                }
            }
        }
        if first_is_me && silent == 0 {
            return Settled::Found;
        }
        if round.is_multiple_of(ROUNDS_PER_REPORT) {
            tracing::info!(silent, "waiting for a cluster at the configured addresses");
        }
        round += 1;
        sleep(ROUND_PAUSE).await;
    }
}

async fn ask(peers: &Peers, host: &str, port: u16, request: &Request) -> io::Result<At> {
    let (link, welcome) = peers.dial_as_guest(host, port).await?;
    if welcome.life == peers.me().life {
        return Ok(At::Me);
    }
    if welcome.cluster == 0 {
        return Ok(At::Stray);
    }
    let answer = link.call(Subject::Node, ShardId(0), Payload::from(request.encode()))?;
    let answer = timeout(JOIN_WAIT_MAX, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let joined: Joined = decode(&answer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if joined.cluster != welcome.cluster {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the node answers for another cluster than its own"));
    }
    Ok(At::Member(joined))
}
