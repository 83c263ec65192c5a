//! Sets the bounds of the shard's state.

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::Settings;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configure {
    pub settings: Settings,
}

wire_struct!(Configure { settings: Settings });

impl Configure {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, _: &mut Effects) -> Result<Outcome, Broken> {
        shard.scalars.settings = self.settings;
        Ok(Outcome::Configure)
    }
}
