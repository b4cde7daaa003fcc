//! What a device takes: blocks of its directory on disk, pages in memory.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::device::Device;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a device took so far, in KiB.
#[derive(Debug)]
pub(crate) struct Space {
    data: PathBuf,
    looked: Instant,
    disk_max: u64,
    memory: u64,
    memory_max: u64,
    /// On disk, each time it was told.
    told: Vec<u64>,
}

impl Space {
    pub(crate) fn of(data: &Path) -> Self {
        let data = data.to_owned();
        Self { data, looked: Instant::now(), disk_max: 0, memory: 0, memory_max: 0, told: Vec::new() }
    }

    /// Looks, unless it did a moment ago.
    pub(crate) fn look(&mut self, device: &mut Device) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        self.memory = device.memory_kib();
        self.memory_max = self.memory_max.max(self.memory);
        self.disk_max = self.disk_max.max(disk_kib(&self.data));
    }

    /// Prints how it is after so many records.
    pub(crate) fn tell(&mut self, records: u64, kills: usize, begun: Instant) {
        let disk = disk_kib(&self.data);
        self.disk_max = self.disk_max.max(disk);
        self.told.push(disk);
        let rate = records as f64 / begun.elapsed().as_secs_f64();
        let memory = self.memory;
        println!("  {records:>8} records  {kills:>3} kills  disk {disk:>6} KiB  memory {memory:>6} KiB  {rate:>6.0}/s");
    }

    pub(crate) fn assert_within(&self, disk_kib: u64, memory_kib: u64) {
        assert!(self.disk_max <= disk_kib, "{} KiB on disk, more than {disk_kib}", self.disk_max);
        assert!(self.memory_max <= memory_kib, "{} KiB of memory, more than {memory_kib}", self.memory_max);
        assert!(self.memory_max > 0 && self.disk_max > 0, "nobody looked");
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { disk_max, memory_max, told, .. } = self;
        let end = disk_kib(&self.data);
        write!(f, "disk max {disk_max} KiB, end {end} KiB, on the way {told:?} KiB, memory max {memory_max} KiB")
    }
}

/// KiB that the files under a directory take. One that goes while it is looked at counts nothing.
fn disk_kib(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_kib(&entry.path()),
        Ok(metadata) => metadata.blocks().div_ceil(2),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// KiB of memory that a process holds; 0 if it is gone.
pub(crate) fn memory_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
