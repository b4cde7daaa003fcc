//! What is told of a run: a line for each thing that happened, and the digest of all of them.

use std::collections::VecDeque;

use bellwether_protocol::digest::Hasher;
use bellwether_protocol::time::Millis;

/// Lines that are kept of a run nobody asked to see whole.
const LINES_KEPT: usize = 120;

/// The trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: Hasher,
    lines: VecDeque<String>,
    whole: bool,
}

impl Trace {
    pub(crate) fn new(whole: bool) -> Self {
        Self { hasher: Hasher::default(), lines: VecDeque::new(), whole }
    }

    pub(crate) fn line(&mut self, now: Millis, text: &str) {
        let line = format!("{:>9.3} s  {text}", now.0 as f64 / 1000.0);
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        if !self.whole && self.lines.len() >= LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The digest of all lines, and the lines that were kept.
    pub(crate) fn end(self) -> (String, Vec<String>) {
        (self.hasher.finish().to_string(), self.lines.into())
    }
}
