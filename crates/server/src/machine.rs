//! What the defaults depend on: the cores and the memory that this process may use.

use std::thread;

/// Facts about the machine, or about the container that limits the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) cores: u64,
    pub(crate) memory_bytes: u64,
}

/// Assumed where the memory's size cannot be read.
const MEMORY_BYTES_ASSUMED: u64 = 1 << 30;

impl Machine {
    pub(crate) fn detect() -> Self {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let total = read("/proc/meminfo").and_then(|text| meminfo_total(&text));
        // Control groups, version 2 and 1; "max" and the huge number of version 1 mean no limit.
        let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let limit = limits.iter().filter_map(|path| read(path)?.trim().parse::<u64>().ok()).min();
        let memory_bytes = match (total, limit) {
            (Some(total), Some(limit)) => total.min(limit),
            (Some(bytes), None) | (None, Some(bytes)) => bytes,
            (None, None) => MEMORY_BYTES_ASSUMED,
        };
        Self { cores, memory_bytes }
    }
}

#[expect(clippy::disallowed_methods, reason = "the kernel's tables are no files of a disk")]
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        let text = "MemFree: 1 kB\nMemTotal:       24684544 kB\n";
        assert_eq!(meminfo_total(text), Some(24_684_544 * 1024));
        assert_eq!(meminfo_total("garbage"), None);
    }
}
