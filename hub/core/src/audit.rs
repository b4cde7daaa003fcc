//! The audit chain: every event carries a digest over itself and all before it, so that whoever
//! holds a later digest finds any edit and any cut.
//!
//! ```text
//!  head(n) = SHA-256("bw-audit" head(n-1) line(n))        head(0) is all zero
//! ```
//! A line is the event as JSON, byte for byte as it was stored, without its head. Heads leave the
//! hub in assignments, in what it signs for auditors, and are kept by the command line: from then on
//! not even the hub can change what came before.

use bellwether_protocol::digest::{Digest, Hasher};
use bellwether_protocol::time::Millis;
use serde::Serialize;

use crate::event::{Event, What};

/// What follows a line in a stored event: its head, always at the end.
const HEAD: &str = ",\"head\":\"";
/// Bytes of that, with the digest and the closing brace.
const TAIL_BYTES: usize = HEAD.len() + 64 + 2;

/// An event without its head.
#[derive(Serialize)]
struct Line<'e> {
    sequence: u64,
    at: Millis,
    who: &'e str,
    what: &'e What,
}

/// Why a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A text that is no event with a head.
    #[error("line {line} is no event of an audit chain")]
    NotAnEvent {
        /// Its place, from 1.
        line: usize,
    },
    /// A number is missing or comes twice.
    #[error("event {expected} is missing: {got} follows {}", expected - 1)]
    Missing {
        /// The number that should follow.
        expected: u64,
        /// The number that does.
        got: u64,
    },
    /// An event, or one before it, was changed.
    #[error("event {sequence} or one before it was changed: its head does not follow")]
    Edited {
        /// The first event that does not fit.
        sequence: u64,
    },
}

/// The event with its head, given the head before it.
pub(crate) fn linked(before: Digest, (sequence, at): (u64, Millis), who: &str, what: What) -> Event {
    let line = serde_json::to_string(&Line { sequence, at, who, what: &what });
    let head = line.map_or(before, |line| follow(before, &line));
    Event { sequence, at, who: who.to_owned(), what, head }
}

/// The head after a line.
#[must_use]
pub fn follow(before: Digest, line: &str) -> Digest {
    let mut hasher = Hasher::default();
    for part in [b"bw-audit".as_slice(), &before.0, line.as_bytes()] {
        hasher.update(part);
    }
    hasher.finish()
}

/// Checks a chain as it is read, oldest first. It begins with event 1, or with the first that is
/// still kept, whose head is then taken as it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verifier {
    last: Option<(u64, Digest)>,
    lines: usize,
}

impl Verifier {
    /// Takes the next stored event; gives its number and head.
    ///
    /// # Errors
    ///
    /// [`Broken`].
    pub fn take(&mut self, text: &str) -> Result<(u64, Digest), Broken> {
        self.lines += 1;
        let (line, sequence, head) = read(text).ok_or(Broken::NotAnEvent { line: self.lines })?;
        let before = match self.last {
            Some((last, _)) if last.checked_add(1) != Some(sequence) => {
                return Err(Broken::Missing { expected: last.saturating_add(1), got: sequence });
            }
            Some((_, before)) => Some(before),
            None if sequence == 1 => Some(Digest::default()),
            None => None,
        };
        // What was recorded before there was a chain has no head, and is held by none.
        let is_unchained = head == Digest::default() && before.is_none_or(|before| before == Digest::default());
        if !is_unchained && before.is_some_and(|before| follow(before, &line) != head) {
            return Err(Broken::Edited { sequence });
        }
        self.last = Some((sequence, head));
        Ok((sequence, head))
    }
}

/// The line of a stored event, its number and its head.
fn read(text: &str) -> Option<(String, u64, Digest)> {
    let event: Event = serde_json::from_str(text).ok()?;
    let start = text.len().checked_sub(TAIL_BYTES)?;
    if event.head == Digest::default() && !text.get(start..).is_some_and(|tail| tail.starts_with(HEAD)) {
        return Some((text.to_owned(), event.sequence, event.head));
    }
    let (line, tail) = text.split_at_checked(start)?;
    let written = tail.strip_prefix(HEAD)?.strip_suffix("\"}")?;
    (written.parse() == Ok(event.head)).then(|| (format!("{line}}}"), event.sequence, event.head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u64) -> Vec<String> {
        let mut head = Digest::default();
        let next = |sequence: u64| {
            let what = What::TokenMade { name: format!("token {sequence} \"quoted\"") };
            let event = linked(head, (sequence, Millis(1000 + sequence)), "Ada", what);
            head = event.head;
            serde_json::to_string(&event).unwrap()
        };
        (1..=count).map(next).collect()
    }

    fn verify(lines: &[String]) -> Result<Option<(u64, Digest)>, Broken> {
        let mut verifier = Verifier::default();
        let mut last = None;
        for line in lines {
            last = Some(verifier.take(line)?);
        }
        Ok(last)
    }

    #[test]
    fn a_whole_chain_holds_and_ends_with_the_last_head() {
        let lines = chain(20);
        let (sequence, head) = verify(&lines).unwrap().unwrap();
        let last: Event = serde_json::from_str(&lines[19]).unwrap();
        assert_eq!((sequence, head), (20, last.head));
        assert!(verify(&lines[5..]).is_ok(), "older ones are deleted in time");
    }

    #[test]
    fn every_changed_byte_is_found() {
        let lines = chain(3);
        let text = lines[1].as_bytes();
        for place in 0..text.len() {
            let mut bytes = text.to_vec();
            bytes[place] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let edited = [lines[0].clone(), changed, lines[2].clone()];
            assert!(verify(&edited).is_err(), "byte {place} of {}", lines[1]);
        }
    }

    #[test]
    fn a_cut_a_swap_and_a_repeat_are_found() {
        let lines = chain(5);
        let without = [&lines[..2], &lines[3..]].concat();
        assert_eq!(verify(&without), Err(Broken::Missing { expected: 3, got: 4 }));
        let mut swapped = lines.clone();
        swapped.swap(1, 2);
        assert_eq!(verify(&swapped), Err(Broken::Missing { expected: 2, got: 3 }));
        let repeated = [&lines[..2], &lines[1..]].concat();
        assert_eq!(verify(&repeated), Err(Broken::Missing { expected: 3, got: 2 }));
        // Whoever rewrites everything after an edit ends with another head than the one held.
        assert_ne!(verify(&chain(5)[..4]).unwrap(), verify(&lines).unwrap());
        assert_eq!(verify(&["{}".to_owned()]), Err(Broken::NotAnEvent { line: 1 }));
    }
}
