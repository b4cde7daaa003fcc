//! What happened when, for whoever reads a failure; and every violation that was seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Events shown with a failure.
const SHOWN: usize = 60;

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Timeline {
    begun: Instant,
    lines: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Where the logs of all processes are kept if it fails.
    pub(crate) logs: PathBuf,
}

/// What a lock holds, whoever panicked while holding it.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Timeline {
    pub(crate) fn new(logs: &Path) -> Self {
        let _absent = std::fs::remove_dir_all(logs);
        std::fs::create_dir_all(logs).expect("the folder of logs can be made");
        let (lines, violations, counts) = Default::default();
        Self { begun: Instant::now(), lines, violations, counts, logs: logs.to_owned() }
    }

    /// Notes what was done or seen.
    pub(crate) fn note(&self, what: impl AsRef<str>) {
        let line = format!("{:8.2} s  {}", self.begun.elapsed().as_secs_f64(), what.as_ref());
        held(&self.lines).push(line);
    }

    /// Notes what must not be.
    pub(crate) fn violation(&self, what: impl AsRef<str>) {
        self.note(format!("VIOLATION  {}", what.as_ref()));
        held(&self.violations).push(what.as_ref().to_owned());
    }

    /// Counts something.
    pub(crate) fn count(&self, what: &'static str) {
        *held(&self.counts).entry(what).or_default() += 1;
    }

    pub(crate) fn counted(&self, what: &str) -> u64 {
        held(&self.counts).get(what).copied().unwrap_or(0)
    }

    /// What was counted under names that begin so, as `name: number`.
    pub(crate) fn counts(&self, start: &str) -> String {
        let counts = held(&self.counts);
        let named = counts.iter().filter_map(|(name, count)| Some(format!("{}: {count}", name.strip_prefix(start)?)));
        named.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn violations(&self) -> usize {
        held(&self.violations).len()
    }

    /// Keeps what a process wrote before it is gone.
    pub(crate) fn keep_log(&self, name: &str, text: &str) {
        use std::io::Write as _;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.logs.join(format!("{name}.log")));
        let written = file.and_then(|mut file| writeln!(file, "{text}\n---- it ended here"));
        written.expect("a log can be kept");
        if let Some(line) = text.lines().find(|line| line.contains("panicked")) {
            self.violation(format!("{name} panicked: {line}"));
        }
    }

    /// Fails with everything that helps if something was violated; takes the logs away if nothing was.
    pub(crate) fn finish(&self, seed: u64, scenario: &str) {
        let violations = held(&self.violations);
        if violations.is_empty() {
            std::fs::remove_dir_all(&self.logs).expect("the folder of logs can be removed");
            return;
        }
        // The rest is said when this is dropped.
        panic!("{scenario}, BELLWETHER_CHAOS_SEED={seed}: {} violations:\n{}", violations.len(), violations.join("\n"));
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        if self.logs.exists() {
            let lines = held(&self.lines);
            eprintln!("what happened before it failed, and all logs in {}:", self.logs.display());
            lines.iter().skip(lines.len().saturating_sub(SHOWN)).for_each(|line| eprintln!("{line}"));
            let _ = std::fs::write(self.logs.join("timeline.txt"), lines.join("\n"));
        }
    }
}
