//! Processor time, memory and writes of a process, from `/proc`.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process used up to a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) at: Instant,
    pub(crate) cpu_s: f64,
    /// Bytes that it caused to be sent to the device.
    pub(crate) written: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Ok(Self { at: Instant::now(), cpu_s: cpu_seconds(&format!("/proc/{pid}/stat"))?, written: written(pid)? })
    }

    /// Resident memory now, in bytes.
    pub(crate) fn memory(pid: u32) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.split_whitespace().next().context("a number")?.parse()?;
        Ok(kib << 10)
    }

    /// The largest resident memory so far, in bytes.
    pub(crate) fn memory_peak(pid: u32) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kib: u64 = line.split_whitespace().next().context("a number")?.parse()?;
        Ok(kib << 10)
    }

    /// From now on the largest resident memory is counted anew.
    pub(crate) fn forget_memory_peak(pid: u32) -> Result<()> {
        Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
    }
}

/// This process's own processor time, all threads.
pub(crate) fn own_cpu_seconds() -> Result<f64> {
    cpu_seconds("/proc/self/stat")
}

/// The processor time of each thread of a process, largest first: a thread at its core's limit shows here.
pub(crate) fn threads_cpu_seconds(pid: u32) -> Result<Vec<f64>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while the folder is read.
        if let Ok(seconds) = cpu_seconds(&entry?.path().join("stat").display().to_string()) {
            threads.push(seconds);
        }
    }
    threads.sort_by(|one, other| other.total_cmp(one));
    Ok(threads)
}

/// Linux counts in hundredths of a second on every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

fn cpu_seconds(path: &str) -> Result<f64> {
    let stat = fs::read_to_string(path).with_context(|| path.to_owned())?;
    // The name in parentheses may hold anything.
    let after = stat.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |field: usize| -> Result<f64> { Ok(fields.get(field).context("a short stat")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn written(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).context("write_bytes")?;
    Ok(line.trim().parse()?)
}

/// Raises the limit on open files to `wanted` when it is lower; children inherit it.
pub(crate) fn allow_open_files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(limit.current) {
        return Ok(());
    }
    let maximum = if enough(limit.maximum) { limit.maximum } else { Some(wanted) };
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
        .with_context(|| format!("raising the limit on open files to {wanted}"))
}

/// Writes so much into the page cache and throws it away. On a virtual machine the host hands out memory at its first
/// touch, which costs more than the writing itself: that must not fall on whoever is measured first.
pub(crate) fn touch_memory(dir: &Path) -> Result<()> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("MemAvailable")?;
    let kib: u64 = line.split_whitespace().next().context("a number")?.parse()?;
    let path = dir.join("touched");
    let mut file = File::create(&path)?;
    let block = vec![0; 1 << 20];
    for _ in 0..(kib >> 10) * 8 / 10 {
        file.write_all(&block)?;
    }
    drop(file);
    fs::remove_file(&path)?;
    Ok(())
}

/// How many processes ran or waited to, on average over the last minute: a figure is worth what the machine was free
/// for it.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}
