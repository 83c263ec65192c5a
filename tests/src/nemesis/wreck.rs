//! Faults of processes and disks.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{DISK_BYTES, Kind, Run};
use crate::process;

/// Free space on a disk that was filled: below the reserve.
const LEFT_BYTES: u64 = 8 << 20;
const STUTTER: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(200));

impl Run<'_> {
    /// Makes a fault, holds it and ends it.
    pub(super) fn inflict(&mut self, kind: Kind) -> Result<()> {
        let count = self.cluster.nodes.len();
        match kind {
            Kind::KillOne => {
                let place = self.pick(count);
                self.kill(&[place])
            }
            Kind::KillLeader => {
                let place = self.leader()?;
                self.kill(&[place])
            }
            Kind::KillMinority => {
                let places = self.some((count - 1) / 2);
                self.kill(&places)
            }
            Kind::KillAll => {
                let all: Vec<usize> = (0..count).collect();
                self.kill(&all)
            }
            Kind::PauseLeader => {
                let place = self.leader()?;
                self.pause(&[place])
            }
            Kind::PauseMajority => {
                let places = self.some(count / 2 + 1);
                self.pause(&places)
            }
            Kind::Stutter => self.stutter(),
            Kind::FullDisk => self.full_disk(),
            Kind::Wipe => self.wipe(),
            Kind::RollingRestart => self.rolling_restart(),
            Kind::Drain => self.drain(),
            Kind::Move => self.move_shard(),
            Kind::Reassign => self.reassign(),
            Kind::Grow => self.grow(),
            Kind::SlowDisk => self.slow_disk(),
            Kind::StalledDisk => self.stalled_disk(),
            Kind::ClockJump => self.clock_jump(),
            _ => self.part(kind),
        }
    }

    /// The place of the node that leads some shard.
    pub(super) fn leader(&mut self) -> Result<usize> {
        let began = Instant::now();
        loop {
            let status = self.cluster.status()?;
            let leaders: Vec<u64> = status.shards.iter().filter_map(|shard| shard.leader).collect();
            let drawn = self.pick(leaders.len());
            let place = leaders.get(drawn).and_then(|leader| self.cluster.place_of(&status, *leader));
            if let Some(place) = place {
                return Ok(place);
            }
            ensure!(began.elapsed() < self.plan.settle_limit, "no shard has a leader: {status:?}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn some(&mut self, count: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.cluster.nodes.len()).collect();
        while places.len() > count {
            let drawn = self.pick(places.len());
            places.swap_remove(drawn);
        }
        places
    }

    pub(super) fn hold(&mut self) {
        let hold = self.between(self.plan.hold);
        thread::sleep(hold);
    }

    fn kill(&mut self, places: &[usize]) -> Result<()> {
        self.tell(&format!("kill -9 at {places:?}"));
        for place in places {
            self.cluster.nodes[*place].kill()?;
        }
        self.hold();
        for place in places {
            self.cluster.nodes[*place].spawn()?;
        }
        for place in places {
            self.cluster.nodes[*place].wait_ready()?;
        }
        Ok(())
    }

    fn pause(&mut self, places: &[usize]) -> Result<()> {
        self.tell(&format!("SIGSTOP at {places:?}"));
        for place in places {
            self.cluster.nodes[*place].pause()?;
        }
        self.hold();
        for place in places {
            self.cluster.nodes[*place].resume()?;
        }
        Ok(())
    }

    fn stutter(&mut self) -> Result<()> {
        let place = self.leader()?;
        let hold = self.between(self.plan.hold);
        self.tell(&format!("place {place} runs a third of {:.1} s", hold.as_secs_f64()));
        let began = Instant::now();
        while began.elapsed() < hold {
            self.cluster.nodes[place].pause()?;
            thread::sleep(STUTTER.0);
            self.cluster.nodes[place].resume()?;
            thread::sleep(STUTTER.1);
        }
        Ok(())
    }

    fn full_disk(&mut self) -> Result<()> {
        let place = self.cluster.nodes.iter().position(|node| node.disk().is_some()).context("no small disk")?;
        self.tell(&format!("the disk of place {place} is full"));
        let resize = |run: &Self, to: fn(u64) -> u64| -> Result<()> {
            let disk = run.cluster.nodes[place].disk().context("no small disk")?;
            disk.resize(to(disk.used()?))
        };
        // What is written between the look and the change may leave less room, or none to change it.
        process::wait_until("a full disk", Duration::from_secs(20), || {
            Ok(resize(self, |used| used + LEFT_BYTES).is_ok())
        })?;
        self.hold();
        resize(self, |_| DISK_BYTES)
    }

    fn rolling_restart(&mut self) -> Result<()> {
        self.tell("SIGTERM and a start, one after another");
        for place in 0..self.cluster.nodes.len() {
            let node = &mut self.cluster.nodes[place];
            let status = node.stop()?;
            ensure!(status.success(), "SIGTERM at place {place} ended with {status}\n{}", node.log_tail());
            node.spawn()?;
            node.wait_ready()?;
            self.cluster.wait_settled(self.plan.settle_limit)?;
        }
        Ok(())
    }
}
