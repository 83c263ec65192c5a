//! Bytes that reach the device for each byte produced, from an empty folder, with all that is filled ahead.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::measure::{Usage, median, page_cache_sync};
use crate::peers::{Plan, Run, Side, figure};
use crate::report::{Bar, Line};

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut ratios = Vec::new();
    let bytes = plan.pick("10000000000", "200000000");
    for _ in 0..plan.runs {
        let run = Run::start(plan, Side::Ours)?;
        let shape = ["--topic", "t", "--connections", "4", "--depth", "8", "--records", "100"];
        let until = ["--seconds", "600", "--bytes", bytes];
        let (measured, ..) = run.measured("produce", &[&shape[..], &until].concat())?;
        // What is filled ahead after the end belongs to it.
        thread::sleep(Duration::from_secs(plan.pick(5, 1)));
        page_cache_sync()?;
        let written = Usage::of(run.pid()?)?.written;
        ratios.push(written as f64 / (figure(&measured, "megabytes")? * 1e6));
    }
    let line = Line::new("bytes written to the device per byte produced", "ratio", median(&ratios));
    Ok(vec![line.bar(Bar::OwnAtMost(2.1))])
}
