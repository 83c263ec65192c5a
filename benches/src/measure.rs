//! Reading what a process used, what its files are, and what a run's latencies were.

mod files;
mod latencies;
mod process;

pub(crate) use files::{
    Sized, bytes_below, drop_page_cache, files_below, free_bytes, page_cache_sync, sequential_megabytes_per_s,
};
pub(crate) use latencies::{Latencies, median};
pub(crate) use process::{Usage, allow_open_files, load_average, own_cpu_seconds, threads_cpu_seconds, touch_memory};
