//! The outside world as one value, handed down from the binary to every crate.

use std::sync::Arc;

use crate::disk::{Disk, RealDisk};
use crate::net::{Network, RealNetwork};
use crate::random::{OsRandom, Random};
use crate::time::{RealWallClock, WallClock};

/// Clock, chance, disk and network of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Env {
    pub wall_clock: Arc<dyn WallClock>,
    pub random: Arc<dyn Random>,
    pub disk: Arc<dyn Disk>,
    pub network: Arc<dyn Network>,
}

impl Env {
    /// The operating system's.
    #[must_use]
    pub fn real() -> Self {
        Self {
            wall_clock: Arc::new(RealWallClock),
            random: Arc::new(OsRandom),
            disk: Arc::new(RealDisk),
            network: Arc::new(RealNetwork),
        }
    }
}
