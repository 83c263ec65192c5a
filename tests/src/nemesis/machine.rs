//! Slow disks and clocks that jump.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::lasting::Lasting;
use super::{Kind, Run};
use crate::mishaps::Mishaps;

/// By how much a slow disk is slow: an old one, one that is shared with too many.
const SLOW: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(300)];
/// One that is about to fail.
const STALLED: Duration = Duration::from_secs(3);
/// So soon a node whose disk has stalled leads nothing any more.
const HANDED_OVER_LIMIT: Duration = Duration::from_secs(45);
const SECOND_MS: i64 = 1_000;
const JUMPS_MS: [i64; 4] = [SECOND_MS, 60 * SECOND_MS, 3_600 * SECOND_MS, 365 * 24 * 3_600 * SECOND_MS];

impl Run<'_> {
    pub(super) fn slow_disk(&mut self) -> Result<()> {
        let place = self.leader()?;
        let slow = SLOW[self.pick(SLOW.len())];
        let write = if self.pick(2) == 0 { Duration::ZERO } else { slow };
        self.tell(&format!("at place {place} syncs take {slow:?} longer, writes {write:?}"));
        self.mishaps(place)?.disk(slow, write)?;
        self.hold();
        self.mishaps(place)?.end()
    }

    /// The node says so itself, and lets others lead.
    pub(super) fn stalled_disk(&mut self) -> Result<()> {
        let place = self.leader()?;
        let id = self.cluster.id(place)?;
        self.tell(&format!("at place {place} syncs take {STALLED:?} longer"));
        self.mishaps(place)?.disk(STALLED, Duration::ZERO)?;
        let began = Instant::now();
        loop {
            let led = self.cluster.status()?.shards.iter().filter(|shard| shard.leader == Some(id)).count();
            if led == 0 {
                break;
            }
            let waited = began.elapsed();
            ensure!(
                waited < HANDED_OVER_LIMIT,
                "node {id}, whose disk has stalled, leads {led} shards after {waited:?}"
            );
            thread::sleep(Duration::from_millis(200));
        }
        self.tell(&format!("node {id} leads nothing after {:.1} s", began.elapsed().as_secs_f64()));
        self.hold();
        self.mishaps(place)?.end()
    }

    /// Nothing expires, neither while the clock is wrong nor when it is right again, and nothing gets a wrong time.
    pub(super) fn clock_jump(&mut self) -> Result<()> {
        let number = self.windows.iter().filter(|window| window.kind == Some(Kind::ClockJump)).count();
        let lasting = Lasting::begin(&self.cluster.bootstrap(), &format!("lasting-{number}"))?;
        let place = self.leader()?;
        let size = JUMPS_MS[self.pick(JUMPS_MS.len())];
        let by_ms = if self.pick(2) == 0 { size } else { -size };
        let restarts = self.pick(3) == 0;
        let also = if restarts { ", and it starts anew" } else { "" };
        self.tell(&format!("the clock of place {place} jumps by {} s{also}", by_ms / SECOND_MS));
        self.mishaps(place)?.clock(by_ms)?;
        lasting.has_right_time()?;
        if restarts {
            let node = &mut self.cluster.nodes[place];
            node.kill()?;
            node.spawn()?;
            node.wait_ready()?;
        }
        self.hold();
        lasting.is_whole()?;
        self.tell(&format!("the clock of place {place} jumps back"));
        self.mishaps(place)?.end()?;
        lasting.has_right_time()?;
        lasting.is_whole()
    }

    fn mishaps(&self, place: usize) -> Result<&Mishaps> {
        self.cluster.nodes[place].mishaps().context("its process is as it is")
    }
}
