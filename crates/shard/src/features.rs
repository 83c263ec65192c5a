//! Levels of features: which commands and tables a cluster may use.
//!
//! A program knows all levels up to [`FEATURE_LEVEL`]. A cluster uses those up to its own level, which is part of the
//! metadata and is raised once every node was heard to know more; it is never lowered. Until then nothing of a higher
//! level is proposed, so that a program that knows less reads every log that there is.

/// The level that this program knows, and all below it.
pub const FEATURE_LEVEL: u32 = 6;
/// The level of a cluster that never raised its own: commands up to 80, tables up to 12.
pub const FIRST_FEATURE_LEVEL: u32 = 1;
/// The last command of that level; those about data end before those about groups begin.
const FIRST_LEVEL_COMMAND_MAX: u8 = 80;
const FIRST_LEVEL_DATA_COMMAND_MAX: u8 = 10;
const DATA_COMMAND_MAX: u8 = 31;
/// The last command of the second level, whose tables are those up to 18.
const SECOND_LEVEL_COMMAND_MAX: u8 = 92;
/// The last command of the third level that is not about data.
const THIRD_LEVEL_COMMAND_MAX: u8 = 95;
/// The last ones of the fourth level.
const FOURTH_LEVEL_COMMAND_MAX: u8 = 96;
const FOURTH_LEVEL_DATA_COMMAND_MAX: u8 = 11;
/// The last command of the fifth level that is about data.
const FIFTH_LEVEL_DATA_COMMAND_MAX: u8 = 12;

/// The level that the cluster must have for the command of that number to be proposed; `raises` tells the one that
/// raises the level, which says itself for whom it is safe.
pub(crate) const fn level_of_command(number: u8, raises: bool) -> u32 {
    let is_data = number <= DATA_COMMAND_MAX;
    if raises || (if is_data { number <= FIRST_LEVEL_DATA_COMMAND_MAX } else { number <= FIRST_LEVEL_COMMAND_MAX }) {
        FIRST_FEATURE_LEVEL
    } else if !is_data && number <= SECOND_LEVEL_COMMAND_MAX {
        2
    } else if !is_data && number <= THIRD_LEVEL_COMMAND_MAX {
        3
    } else if number <= (if is_data { FOURTH_LEVEL_DATA_COMMAND_MAX } else { FOURTH_LEVEL_COMMAND_MAX }) {
        4
    } else if number <= FIFTH_LEVEL_DATA_COMMAND_MAX || !is_data {
        5
    } else {
        6
    }
}
