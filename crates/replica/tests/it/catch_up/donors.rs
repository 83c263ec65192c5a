//! Ways to a member that is asked, some of which end.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use replica::{Donor, Replica};

/// The largest answer between nodes.
const ANSWER_BYTES_MAX: usize = (4 << 20) - (64 << 10);

/// What happens at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Never,
    /// That request, counted from 0, has no answer, and says so.
    Fails(usize),
    /// That request has no answer for ever.
    Hangs(usize),
}

/// Asks a replica of the same process.
pub(crate) struct Direct {
    replica: Replica,
    end: End,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    count: usize,
    /// Bytes of the answers, by the kind of request.
    bytes: BTreeMap<u8, usize>,
}

pub(crate) const ENTRIES: u8 = 4;
pub(crate) const FILE: u8 = 3;

impl Direct {
    pub(crate) fn new(replica: &Replica) -> Self {
        Self::ending(replica, End::Never)
    }

    pub(crate) fn ending(replica: &Replica, end: End) -> Self {
        Self { replica: replica.clone(), end, asked: Mutex::default() }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().count
    }

    pub(crate) fn bytes(&self, kind: u8) -> usize {
        self.asked.lock().bytes.get(&kind).copied().unwrap_or(0)
    }
}

impl Donor for Direct {
    fn ask(&self, request: Bytes) -> BoxFuture<'_, io::Result<Bytes>> {
        async move {
            let number = {
                let mut asked = self.asked.lock();
                asked.count += 1;
                asked.count - 1
            };
            match self.end {
                End::Fails(at) if at == number => return Err(io::ErrorKind::ConnectionReset.into()),
                End::Hangs(at) if at == number => std::future::pending().await,
                _ => {}
            }
            let kind = request[1];
            let answer = self.replica.answer_pull(request).await.map_err(io::Error::other)?.to_bytes();
            assert!(answer.len() <= ANSWER_BYTES_MAX, "an answer fits a frame");
            *self.asked.lock().bytes.entry(kind).or_default() += answer.len();
            Ok(answer)
        }
        .boxed()
    }
}
