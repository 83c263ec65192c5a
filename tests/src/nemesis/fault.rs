//! The kinds of faults.

/// One kind of fault. Which node it hits is drawn when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9 of any node, and a start.
    KillOne,
    /// The same of the node that leads a shard.
    KillLeader,
    /// Of as many as may be missing.
    KillMinority,
    /// Of all at once.
    KillAll,
    /// SIGSTOP of the node that leads a shard: its connections stay open.
    PauseLeader,
    /// Of so many that the others cannot decide; all of them think to lead when they go on.
    PauseMajority,
    /// A node that runs a third of the time.
    Stutter,
    /// The leader of a shard sees clients and no other node.
    IsolateLeader,
    /// A node sees nobody.
    Isolate,
    /// Two parts, one without a majority; clients see all.
    Halves,
    /// Two nodes do not see each other; all others see both.
    Bridge,
    /// Each node sees two others.
    Ring,
    /// What the leader of a shard sends is lost; it hears all.
    Mute,
    /// What is sent to the leader of a shard is lost; it is heard.
    Deaf,
    /// A link that comes and goes.
    Flapping,
    /// A node on a bad line.
    SlowLink,
    /// What a node sends is late.
    Delay,
    /// A disk without room.
    FullDisk,
    /// A disk that was replaced by an empty one: the node comes back as another one, and the old one is let go of.
    Wipe,
    /// SIGTERM and a start of one after another.
    RollingRestart,
    /// A node is emptied, and takes part again.
    Drain,
    /// A shard gets another leader, by an operator.
    Move,
    /// Partitions get other copies, by an administrator's request, while nothing else balances them.
    Reassign,
    /// A node comes, gets its share, and goes for good.
    Grow,
    /// Syncs, and perhaps writes, of the leader of a shard are late, not so much that it should not lead.
    SlowDisk,
    /// Syncs of the leader of a shard take seconds: it lets others lead.
    StalledDisk,
    /// The clock of the leader of a shard jumps, and jumps back; it may start anew in between.
    ClockJump,
}

impl Kind {
    pub const ALL: [Self; 27] = [
        Self::KillOne,
        Self::KillLeader,
        Self::KillMinority,
        Self::KillAll,
        Self::PauseLeader,
        Self::PauseMajority,
        Self::Stutter,
        Self::IsolateLeader,
        Self::Isolate,
        Self::Halves,
        Self::Bridge,
        Self::Ring,
        Self::Mute,
        Self::Deaf,
        Self::Flapping,
        Self::SlowLink,
        Self::Delay,
        Self::FullDisk,
        Self::Wipe,
        Self::RollingRestart,
        Self::Drain,
        Self::Move,
        Self::Reassign,
        Self::Grow,
        Self::SlowDisk,
        Self::StalledDisk,
        Self::ClockJump,
    ];

    /// Whether it is made by the network between hosts.
    pub(super) const fn needs_network(self) -> bool {
        matches!(
            self,
            Self::IsolateLeader
                | Self::Isolate
                | Self::Halves
                | Self::Bridge
                | Self::Ring
                | Self::Mute
                | Self::Deaf
                | Self::Flapping
                | Self::SlowLink
                | Self::Delay
        )
    }

    /// Whether it is made inside the process of a node.
    pub(super) const fn needs_preload(self) -> bool {
        matches!(self, Self::SlowDisk | Self::StalledDisk | Self::ClockJump)
    }

    /// Whether it may only begin when all copies are whole.
    pub(super) const fn needs_all(self) -> bool {
        matches!(
            self,
            Self::FullDisk
                | Self::Wipe
                | Self::RollingRestart
                | Self::Drain
                | Self::Move
                | Self::Reassign
                | Self::Grow
                | Self::StalledDisk
        )
    }

    /// In fewer nodes it would be the same as another one.
    pub(super) const fn nodes_min(self) -> usize {
        match self {
            Self::KillMinority | Self::Halves | Self::Ring => 5,
            // Of three nodes every shard has the same three.
            Self::Reassign => 4,
            _ => 3,
        }
    }
}
