//! When to say what: a hello after every connect, a report when something changed and at least every
//! heartbeat, with sequence numbers that never repeat.

use bellwether_protocol::time::Millis;

use crate::Why;

/// Report numbers reserved on disk at once: one write for that many reports.
pub const REPORTS_RESERVED: u64 = 64;
/// Least time between two reports: a busy install changes state many times a second.
const REPORT_GAP: Millis = Millis(100);

/// What the device owes the hub; not persisted.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Number of the current connection.
    pub(crate) number: Option<u32>,
    /// What is known is to be told, and the time to be asked for, at this time.
    ask: Option<Millis>,
    /// A hello is due.
    pub(crate) hello: bool,
    /// A report is due at this time.
    due: Option<Millis>,
    last: Option<Millis>,
    /// The scores so far should go with it.
    pub(crate) flush: bool,
    /// The end of the log is asked for. Not kept over a restart, nor is the log.
    pub(crate) log: bool,
    /// Number of the next report.
    pub(crate) sequence: u64,
}

impl Session {
    pub(crate) const fn new(sequence: u64) -> Self {
        Self { number: None, ask: None, hello: false, due: None, last: None, flush: false, log: false, sequence }
    }

    pub(crate) fn connected(&mut self, now: Millis, number: u32) {
        (self.number, self.hello, self.due, self.last) = (Some(number), true, Some(now), None);
        self.ask = Some(now);
    }

    /// More may be known soon: the hub is asked again, but not for every step.
    pub(crate) fn ask(&mut self, now: Millis) {
        self.ask.get_or_insert(now.saturating_add(REPORT_GAP));
    }

    /// What is known was told.
    pub(crate) const fn asked(&mut self) {
        self.ask = None;
    }

    /// Whether what is known should be told now.
    pub(crate) fn is_asking(&self, now: Millis) -> bool {
        self.number.is_some() && self.ask.is_some_and(|at| at <= now)
    }

    /// The hub should say again what it wants.
    pub(crate) const fn greet_again(&mut self) {
        self.hello = self.number.is_some();
    }

    pub(crate) const fn disconnected(&mut self) {
        self.number = None;
        self.ask = None;
        self.hello = false;
    }

    /// Something changed that the hub should know soon.
    pub(crate) fn changed(&mut self, now: Millis) {
        let at = self.last.map_or(now, |last| last.saturating_add(REPORT_GAP)).max(now);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// A report was handed over; the next heartbeat is set.
    pub(crate) fn reported(&mut self, now: Millis, heartbeat: Millis) {
        self.sequence = self.sequence.saturating_add(1);
        self.flush = false;
        self.last = Some(now);
        self.due = Some(now.saturating_add(heartbeat));
    }

    /// Whether a report should go now.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        self.number.is_some() && !self.hello && self.due.is_some_and(|due| due <= now)
    }

    pub(crate) fn deadline(&self) -> Option<(Millis, Why)> {
        let asked = self.number.and(self.ask).map(|at| (at, Why::Known));
        let due = self.number.and(self.due).map(|due| (due, Why::Report));
        [asked, due].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_roots_is_one_question() {
        let mut session = Session::new(1);
        session.connected(Millis(0), 1);
        assert!(session.is_asking(Millis(0)));
        session.asked();
        (0..9).for_each(|now| session.ask(Millis(now)));
        assert!(!session.is_asking(Millis(99)));
        assert!(session.is_asking(Millis(100)));
        session.disconnected();
        assert!(!session.is_asking(Millis(100)));
    }

    #[test]
    fn changes_are_reported_soon_but_not_in_a_burst() {
        let mut session = Session::new(1);
        session.connected(Millis(0), 1);
        session.hello = false;
        session.asked();
        assert!(session.is_due(Millis(0)));
        session.reported(Millis(0), Millis(30_000));
        session.changed(Millis(10));
        session.changed(Millis(20));
        assert!(!session.is_due(Millis(99)));
        assert!(session.is_due(Millis(100)));
        session.reported(Millis(100), Millis(30_000));
        assert_eq!(session.deadline(), Some((Millis(30_100), Why::Report)));
        session.disconnected();
        assert_eq!(session.deadline(), None);
    }
}
