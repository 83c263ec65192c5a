//! What clients are tried against: one broker, or a cluster whose nodes may be restarted meanwhile.
//!
//! Keeps true: a check asserts what holds of the nodes that are there, and under restarts no less than what a client
//! that retries is promised.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};

/// Copies of a partition in a cluster that has the nodes for it.
const COPIES_MAX: usize = 3;

/// Where clients connect, and what they may expect there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The addresses of all nodes, with commas between them.
    pub bootstrap: String,
    pub nodes: usize,
    /// Nodes are restarted while clients work.
    pub restarts: bool,
}

impl Served {
    /// One node that stays.
    pub fn by_one(bootstrap: String) -> Self {
        Self { bootstrap, nodes: 1, restarts: false }
    }

    /// Copies that every partition has.
    pub fn copies(&self) -> usize {
        self.nodes.min(COPIES_MAX)
    }

    /// One of the addresses.
    pub fn first(&self) -> Result<SocketAddr> {
        let first = self.bootstrap.split(',').next().context("no address")?;
        first.parse().with_context(|| format!("{first} is no address"))
    }

    /// Tells a client program by its environment; see [`crate::clients`].
    pub fn tell(&self, command: &mut Command) {
        command.env("CHECK_NODES", self.nodes.to_string());
        command.env("CHECK_RESTARTS", if self.restarts { "1" } else { "" });
    }
}
