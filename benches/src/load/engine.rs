//! One thread and an epoll instance that keep connections busy.

use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::Result;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::socket::Socket;

const EVENTS_MAX: usize = 256;

/// What epoll has to say about one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) index: usize,
    pub(super) is_writable: bool,
}

#[derive(Debug)]
pub(super) struct Poll {
    epoll: OwnedFd,
    ready: Vec<Ready>,
}

impl Poll {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, ready: Vec::new() })
    }

    /// Edge-triggered for reading and writing: nothing is registered again later.
    pub(super) fn add(&self, index: usize, socket: &Socket) -> Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET | EventFlags::RDHUP;
        epoll::add(&self.epoll, &socket.stream, EventData::new_u64(index as u64), flags)?;
        Ok(())
    }

    /// The connections that can be read from or written to again.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<&[Ready]> {
        let timeout = Timespec { tv_sec: i64::try_from(limit.as_secs())?, tv_nsec: i64::from(limit.subsec_nanos()) };
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        self.ready.clear();
        match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            Ok((events, _)) => self.ready.extend(events.iter().map(|event| {
                // The struct is packed, as the kernel has it: fields are copied out.
                let (flags, data) = (event.flags, event.data);
                let index = usize::try_from(data.u64()).unwrap_or(usize::MAX);
                Ready { index, is_writable: flags.contains(EventFlags::OUT) }
            })),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(&self.ready)
    }
}
