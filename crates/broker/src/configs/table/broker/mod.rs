//! The keys of a broker, by theme.

use super::key::{Key, keys};

mod consensus;
mod groups;
mod log;
mod node;
mod security;
mod tiered;
mod transactions;

pub(super) const KEYS: &[&[Key]] =
    &[node::KEYS, log::KEYS, groups::KEYS, transactions::KEYS, consensus::KEYS, security::KEYS, tiered::KEYS];
