//! Does nothing but bring the shard's time forward, by the time of the entry that it stands in.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tick {}

wire_struct!(Tick {});

impl Tick {
    // Like every command, although nothing is left to do: the entry has brought the time already.
    #[expect(clippy::unnecessary_wraps, reason = "every command has the same signature")]
    pub(crate) fn apply(self, _: &mut Shard, _: Position, _: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::Tick)
    }
}
