//! Reading what a process used, and what a run's latencies were.

mod latencies;
mod process;

pub(crate) use latencies::{Latencies, median};
pub(crate) use process::{
    Usage, allow_open_files, drop_page_cache, load_average, own_cpu_seconds, page_cache_sync, threads_cpu_seconds,
    touch_memory,
};
