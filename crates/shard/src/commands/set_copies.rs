//! How many copies of a data shard decide, where there are as many nodes: three, until this says otherwise.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::WantedCopies;
use crate::outcome::{Outcome, SetCopiesError};
use crate::shard::{Position, Shard};

/// What may be asked for: with an even number no more nodes may fail than with one less.
pub const COPIES: [u8; 3] = [1, 3, 5];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetCopies {
    pub copies: u8,
}

wire_struct!(SetCopies { copies: u8 });

impl SetCopies {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        if !COPIES.contains(&self.copies) {
            return Ok(Outcome::SetCopies(Err(SetCopiesError::Number)));
        }
        if shard.copies() != self.copies {
            shard.metadata.wanted_copies.put(WantedCopies { copies: self.copies });
            shard.metadata_change(effects);
        }
        Ok(Outcome::SetCopies(Ok(())))
    }
}
