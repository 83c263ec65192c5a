//! Faults of links, made and healed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Kind, Run};
use crate::network::Host;

const BAD_LINE_KILOBITS: u32 = 512;
const LATE: Duration = Duration::from_millis(80);
const FLAP: Duration = Duration::from_millis(400);

impl Run<'_> {
    /// Breaks links for a while.
    pub(super) fn part(&mut self, kind: Kind) -> Result<()> {
        let count = self.cluster.nodes.len();
        let hold = self.between(self.plan.hold);
        let place = match kind {
            Kind::IsolateLeader | Kind::Mute | Kind::Deaf | Kind::Flapping => self.leader()?,
            _ => self.pick(count),
        };
        let others: Vec<usize> = (0..count).filter(|other| *other != place).collect();
        let other = others[self.pick(others.len())];
        self.tell(&format!("{kind:?} at place {place} for {:.1} s", hold.as_secs_f64()));
        if kind == Kind::Flapping {
            return self.flap(place, &others, hold);
        }
        let network = self.cluster.network.as_mut().context("links cannot be cut here")?;
        match kind {
            Kind::IsolateLeader | Kind::Isolate => {
                for other in &others {
                    network.part(Host::Node(place), Host::Node(*other))?;
                }
                if kind == Kind::Isolate {
                    network.part(Host::Node(place), Host::Clients)?;
                }
            }
            Kind::Halves => {
                let (one, rest) = others.split_at((count - 1) / 2 - 1);
                for one in one.iter().chain([&place]) {
                    for rest in rest {
                        network.part(Host::Node(*one), Host::Node(*rest))?;
                    }
                }
            }
            Kind::Bridge => network.part(Host::Node(place), Host::Node(other))?,
            Kind::Ring => {
                for one in 0..count {
                    let is_next = |other: usize| other == (one + 1) % count || one == (other + 1) % count;
                    for other in (one + 1..count).filter(|other| !is_next(*other)) {
                        network.part(Host::Node(one), Host::Node(other))?;
                    }
                }
            }
            Kind::Mute => {
                for other in &others {
                    network.cut(Host::Node(place), Host::Node(*other))?;
                }
            }
            Kind::Deaf => {
                for other in &others {
                    network.cut(Host::Node(*other), Host::Node(place))?;
                }
            }
            Kind::SlowLink => network.slow(place, BAD_LINE_KILOBITS)?,
            Kind::Delay => network.delay(place, LATE)?,
            _ => anyhow::bail!("no fault of links"),
        }
        thread::sleep(hold);
        self.heal()
    }

    fn flap(&mut self, place: usize, others: &[usize], hold: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < hold {
            let network = self.cluster.network.as_mut().context("links cannot be cut here")?;
            for other in others {
                network.part(Host::Node(place), Host::Node(*other))?;
            }
            thread::sleep(FLAP);
            self.heal()?;
            thread::sleep(FLAP);
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<()> {
        self.cluster.network.as_mut().map_or(Ok(()), crate::network::Network::heal)
    }
}
