//! What is deleted, expires or is superseded gives its space back: the directory stays under a bound that follows from the
//! settings, and what is left is right, also after `kill -9`.
//!
//! `TEST_SPACE_MB=20000 TEST_SPACE_DIR=/a/folder` writes 20 GB into topics that keep 1 GB.

use anyhow::Result;
use tests::space::{self, Plan};

#[test]
fn the_directory_stays_under_its_bound_and_every_record_is_right() -> Result<()> {
    space::run(&Plan::from_environment()?)?.print()
}
