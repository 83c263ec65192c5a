//! The stored form of a group's membership, in entries and in checkpoints.
//!
//! ```text
//! version u8 = 1 | configs u16 | per config: voters u16, node id u64 each | nodes u16 | node id u64 each
//! ```
//! All integers are little-endian. A node that stands in no config is a learner.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EmptyNode;
use thiserror::Error;

use super::types::Membership;

const VERSION: u8 = 1;
const CONFIGS_MAX: u16 = 2;
const NODES_MAX: u16 = 4096;

/// Why bytes are not a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    #[error("a membership ends early")]
    Short,
    #[error("a membership has {0} bytes too many")]
    Trailing(usize),
    #[error("a membership of version {0}, which this version of the program does not know")]
    Version(u8),
    #[error("a membership counts {count} members or configurations, at most {max} are allowed")]
    Count { count: u16, max: u16 },
    #[error("the members do not stand in the order of their ids")]
    Order,
    #[error("a membership is not consistent: a voter is no member, or nobody votes")]
    Inconsistent,
}

pub(crate) fn encode(membership: &Membership) -> Vec<u8> {
    let mut out = vec![VERSION];
    let configs = membership.get_joint_config();
    put_count(&mut out, configs.len());
    for config in configs {
        put_count(&mut out, config.len());
        config.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    }
    let nodes: Vec<u64> = membership.nodes().map(|(id, _)| *id).collect();
    put_count(&mut out, nodes.len());
    nodes.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Membership, DecodeError> {
    let mut rest = bytes;
    let (version, tail) = rest.split_first().ok_or(DecodeError::Short)?;
    rest = tail;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    let config_count = take_count(&mut rest, CONFIGS_MAX)?;
    if config_count == 0 {
        return Err(DecodeError::Inconsistent);
    }
    let mut configs = Vec::with_capacity(usize::from(config_count));
    for _ in 0..config_count {
        configs.push(take_ids(&mut rest)?);
    }
    let nodes: BTreeMap<u64, EmptyNode> = take_ids(&mut rest)?.into_iter().map(|id| (id, EmptyNode {})).collect();
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    Membership::new(configs, nodes).map_err(|_| DecodeError::Inconsistent)
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("a group has far fewer members than 65,536");
    out.extend_from_slice(&count.to_le_bytes());
}

fn take_count(rest: &mut &[u8], max: u16) -> Result<u16, DecodeError> {
    let (head, tail) = rest.split_first_chunk::<2>().ok_or(DecodeError::Short)?;
    *rest = tail;
    let count = u16::from_le_bytes(*head);
    if count > max { Err(DecodeError::Count { count, max }) } else { Ok(count) }
}

fn take_ids(rest: &mut &[u8]) -> Result<BTreeSet<u64>, DecodeError> {
    let count = take_count(rest, NODES_MAX)?;
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<8>().ok_or(DecodeError::Short)?;
        *rest = tail;
        let id = u64::from_le_bytes(*head);
        if ids.last().is_some_and(|last| *last >= id) {
            return Err(DecodeError::Order);
        }
        ids.insert(id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(configs: &[&[u64]], nodes: &[u64]) -> Membership {
        let configs = configs.iter().map(|config| config.iter().copied().collect()).collect();
        let nodes: BTreeMap<u64, EmptyNode> = nodes.iter().map(|id| (*id, EmptyNode {})).collect();
        Membership::new(configs, nodes).expect("consistent")
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for value in [membership(&[&[1]], &[1]), membership(&[&[1, 2, 3], &[2, 3, 4]], &[1, 2, 3, 4, 9])] {
            assert_eq!(decode(&encode(&value)), Ok(value));
        }
    }

    #[test]
    fn every_shorter_or_longer_form_is_refused() {
        let encoded = encode(&membership(&[&[1, 2, 3], &[2, 3, 4]], &[1, 2, 3, 4]));
        for length in 0..encoded.len() {
            assert!(decode(&encoded[..length]).is_err(), "{length} bytes");
        }
        let mut longer = encoded;
        longer.push(0);
        assert_eq!(decode(&longer), Err(DecodeError::Trailing(1)));
    }

    #[test]
    fn one_membership_has_one_form() {
        let mut swapped = encode(&membership(&[&[1]], &[1, 2]));
        let place = swapped.len() - 16;
        swapped[place..].rotate_left(8);
        assert_eq!(decode(&swapped), Err(DecodeError::Order));
        let nobody = [VERSION, 0, 0, 0, 0];
        assert_eq!(decode(&nobody), Err(DecodeError::Inconsistent));
    }

    #[test]
    fn counts_are_bounded() {
        let bytes = [VERSION, 0xff, 0xff];
        assert_eq!(decode(&bytes), Err(DecodeError::Count { count: 0xffff, max: CONFIGS_MAX }));
    }
}
