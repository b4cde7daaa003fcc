//! What a model's process says of its offload: totals since it began, a line of JSON each time.

use std::io::{BufRead as _, BufReader, Read};
use std::thread;
use std::time::Duration;

use bellwether_protocol::id::ModelName;
use bellwether_protocol::trust::{Running, ScoredBy};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Longest line: numbers, and a cause.
const LINE_BYTES_MAX: u64 = 4096;
/// Pause after each line: what a process says more often waits in its pipe, and then the process does.
const LINE_PAUSE: Duration = Duration::from_millis(250);

/// Since the process began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) by: ScoredBy,
    /// What the engine says it was built from, once asked.
    pub(crate) build: Option<u32>,
    pub(crate) engine_rows: u64,
    pub(crate) twin_rows: u64,
    pub(crate) cycles: u64,
    pub(crate) macs: u64,
    pub(crate) recovered: u16,
    /// The latest fault; empty if there was none.
    pub(crate) cause: String,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            by: ScoredBy::Waiting,
            build: None,
            engine_rows: 0,
            twin_rows: 0,
            cycles: 0,
            macs: 0,
            recovered: 0,
            cause: String::new(),
        }
    }
}

impl Totals {
    /// What came after `before`, which is of the same process.
    fn since(&self, before: &Self) -> Self {
        Self {
            engine_rows: self.engine_rows.saturating_sub(before.engine_rows),
            twin_rows: self.twin_rows.saturating_sub(before.twin_rows),
            cycles: self.cycles.saturating_sub(before.cycles),
            macs: self.macs.saturating_sub(before.macs),
            recovered: self.recovered.saturating_sub(before.recovered),
            ..self.clone()
        }
    }

    /// Takes what came later.
    pub(crate) fn add(&mut self, later: Self) {
        *self = Self {
            engine_rows: self.engine_rows.saturating_add(later.engine_rows),
            twin_rows: self.twin_rows.saturating_add(later.twin_rows),
            cycles: self.cycles.saturating_add(later.cycles),
            macs: self.macs.saturating_add(later.macs),
            recovered: self.recovered.saturating_add(later.recovered),
            ..later
        };
    }
}

/// Whose process it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) name: ModelName,
    pub(crate) running: Running,
}

/// What a process did since it last said so.
#[derive(Debug)]
pub(crate) struct Offloaded {
    pub(crate) origin: Origin,
    pub(crate) since: Totals,
}

/// Reads what a process says until it ends. What finds no room with the agent is told with the next; a line
/// that does not read is passed by, as the process is a stranger's model's.
pub(crate) fn listen(from: impl Read, origin: &Origin, told: &mpsc::Sender<Offloaded>) {
    let mut from = BufReader::new(from);
    let mut before = Totals::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        thread::sleep(LINE_PAUSE);
        let Ok(totals) = serde_json::from_slice::<Totals>(&line) else { continue };
        let since = totals.since(&before);
        if told.try_send(Offloaded { origin: origin.clone(), since }).is_ok() {
            before = totals;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::tests::running;

    fn line(totals: &Totals) -> String {
        format!("{}\n", serde_json::to_string(totals).unwrap())
    }

    #[test]
    fn totals_become_what_is_new_and_nothing_is_lost_for_want_of_room() {
        let (told, mut here) = mpsc::channel(1);
        let origin = Origin { name: "digits".parse().unwrap(), running: running(1) };
        let at = |engine_rows, twin_rows| Totals { engine_rows, twin_rows, ..Totals::default() };
        let said = [line(&at(1, 2)), "junk\n".to_owned(), "x".repeat(9000), "\n".to_owned(), line(&at(5, 2))].concat();
        listen(said.as_bytes(), &origin, &told);
        let first = here.try_recv().unwrap();
        assert_eq!((first.since.engine_rows, first.since.twin_rows, first.origin), (1, 2, origin.clone()));
        assert!(here.try_recv().is_err(), "the second found no room");
        let mut all = at(1, 0);
        all.add(at(4, 7));
        assert_eq!((all.engine_rows, all.twin_rows), (5, 7));
        // A process that says less than before is believed in what it says, never below nothing.
        assert_eq!(at(1, 1).since(&at(5, 0)), at(0, 1));
    }
}
