//! A shard's state with a million idle streams.

use std::process::Command;

use anyhow::Result;

use crate::peers::{Plan, figure, run_load};
use crate::report::{Bar, Line, number};

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let streams = plan.pick("1000000", "20000");
    let mut load = Command::new(std::env::current_exe()?);
    let measured = run_load(load.args(["load", "streams", "--streams", streams]))?;
    let pause = figure(&measured, "base_pause_ms")?.max(figure(&measured, "delta_pause_ms")?);
    Ok(vec![
        Line::new(format!("{streams} idle streams: memory"), "MB", figure(&measured, "memory_mb")?)
            .bar(Bar::OwnAtMost(1000.0))
            .note(format!("{} bytes each", number(figure(&measured, "bytes_each")?))),
        Line::new(format!("{streams} idle streams: longest pause of apply by a checkpoint"), "ms", pause)
            .bar(Bar::OwnAtMost(5.0))
            .note(format!("base {} MB", number(figure(&measured, "base_mb")?))),
    ])
}
