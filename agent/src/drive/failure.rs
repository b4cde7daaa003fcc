//! What goes up when an install has failed, a model crashed, or somebody asks: cause, memory, the end
//! of the log.

use bellwether_agent_core::update::{Install, Model, Step};
use bellwether_agent_core::{CRASHES_MAX, Input};
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{ModelName, Version};
use bellwether_protocol::limit::{CAUSE_BYTES_MAX, LOG_BYTES_MAX, LOG_PIECE_BYTES_MAX};
use bellwether_protocol::trust::{Event, Failure, Log, LogWhy, Phase, RecordBody, Running};

use super::Driver;
use crate::error::Failed;
use crate::host::Crash;
use crate::journal::{self, JOURNAL_BYTES_MAX};

/// What went wrong with a version, until the brain has told that it ended.
pub(super) struct Trouble {
    name: ModelName,
    version: Version,
    failed: Failed,
}

impl Driver {
    /// A model's process ended: the brain takes the model back, or counts.
    pub(super) fn crashed(&mut self, crash: Crash) {
        let Crash { name, running: Running { version, release }, mut failed, is_final } = crash;
        let input = if is_final {
            Input::Install { name: &name, release, step: Step::Failed(failed.reject) }
        } else {
            // Of a model that answered, all that ends its process is a crash.
            failed.reject = Reject::Crashed;
            Input::Crashed { name: &name, release }
        };
        self.keep_trouble(&name, version, failed.clone());
        let is_taken = self.handle(input).is_ok();
        let is_at_end = |model: &Model| {
            let ends = if let Install::Settled { running, phase: Phase::RolledBack, .. } = model.install {
                Some(running)
            } else {
                let rolls_back = matches!(model.install, Install::RollingBack { .. });
                model.install.target().filter(|_| rolls_back).map(|target| target.running)
            };
            ends.is_some_and(|running| running.release == release)
        };
        if self.brain.state().models.iter().any(|model| model.name == name && is_at_end(model)) {
            // The event of its end takes the cause along.
            return;
        }
        self.rest.trouble = None;
        // What crashes on and on is told no more: the outbox has other things to keep.
        let crashes = self.brain.state().crashes_of(&name, release);
        if is_taken && crashes <= CRASHES_MAX {
            self.note_failed(&name, version, &failed);
        }
    }

    /// Keeps why a version failed; of one install the first cause counts.
    pub(super) fn keep_trouble(&mut self, name: &ModelName, version: Version, failed: Failed) {
        tracing::warn!(model = %name, %version, reject = ?failed.reject, cause = failed.cause, "a version failed");
        let is_known = |trouble: &Trouble| trouble.name == *name && trouble.version == version;
        if !self.rest.trouble.as_ref().is_some_and(is_known) {
            self.rest.trouble = Some(Trouble { name: name.clone(), version, failed });
        }
    }

    /// Puts the cause and the log beside the event of an install that failed by what was tried, not
    /// by how it was signed.
    pub(super) fn note_failure(&mut self, event: &Event) {
        let is_end = matches!(event.phase, Phase::Rejected | Phase::RolledBack);
        let Some(reject) = event.reject.filter(|reject| is_end && is_failure(*reject)) else { return };
        let known = self.rest.trouble.take().filter(|trouble| {
            trouble.name == event.name && trouble.version == event.version && trouble.failed.reject == reject
        });
        let failed = known.map_or_else(|| reject.into(), |trouble| trouble.failed);
        self.note_failed(&event.name, event.version, &failed);
    }

    fn note_failed(&mut self, name: &ModelName, version: Version, failed: &Failed) {
        let ended = failed.ended.as_ref();
        self.note(RecordBody::Failure(Failure {
            name: name.clone(),
            version,
            reject: failed.reject,
            cause: cut(&failed.cause, CAUSE_BYTES_MAX),
            exit: ended.map(|ended| ended.exit),
            peak_kib: ended.map_or(0, |ended| ended.peak_kib),
        }));
        let told = ended.map_or(&[][..], |ended| ended.log.as_slice());
        self.note_log(LogWhy::Failure, &log_of(told, &journal::tail(&self.span, LOG_BYTES_MAX)));
    }

    /// Puts the end of the journal into the outbox; an empty one is an answer, too.
    pub(super) fn note_journal(&mut self) {
        self.note_log(LogWhy::Asked, &journal::tail(&self.span, JOURNAL_BYTES_MAX));
    }

    fn note_log(&mut self, why: LogWhy, text: &[u8]) {
        let pieces = u8::try_from(text.len().div_ceil(LOG_PIECE_BYTES_MAX).max(1)).unwrap_or(u8::MAX);
        // `chunks` of nothing is nothing, but the first piece is always sent.
        let all = (0..pieces).zip(text.chunks(LOG_PIECE_BYTES_MAX).chain([&[][..]]));
        for (piece, text) in all {
            self.note(RecordBody::Log(Log { why, piece, pieces, text }));
        }
    }
}

/// Whether a refusal says that the version failed here: not one of its signatures, nor a change of mind.
fn is_failure(reject: Reject) -> bool {
    reject.code() >= Reject::DigestMismatch.code() && reject != Reject::Withdrawn
}

/// What the trial logged and what the agent did, in [`LOG_BYTES_MAX`]: neither drives out the other.
fn log_of(trial: &[u8], journal: &[u8]) -> Vec<u8> {
    let last = |bytes: &[u8], room: usize| bytes.iter().skip(bytes.len().saturating_sub(room)).copied().collect();
    let mut log: Vec<u8> = last(trial, LOG_BYTES_MAX - journal.len().min(LOG_BYTES_MAX / 2));
    let rest: Vec<u8> = last(journal, LOG_BYTES_MAX - log.len());
    log.extend(rest);
    log
}

/// At most `bytes` of a text, cut between characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_and_journal_share_the_room() {
        let (long, short) = (vec![b't'; 9000], vec![b't'; 10]);
        let (journal, little) = (vec![b'j'; 9000], vec![b'j'; 10]);
        let shares = |trial: &[u8], journal: &[u8]| {
            let log = log_of(trial, journal);
            let trial = log.iter().take_while(|byte| **byte == b't').count();
            (trial, log.len() - trial)
        };
        assert_eq!(shares(&long, &journal), (LOG_BYTES_MAX / 2, LOG_BYTES_MAX / 2));
        assert_eq!(shares(&short, &journal), (10, LOG_BYTES_MAX - 10));
        assert_eq!(shares(&long, &little), (LOG_BYTES_MAX - 10, 10));
        assert_eq!(shares(&[], &[]), (0, 0));
    }

    #[test]
    fn a_cause_is_cut_between_characters() {
        assert_eq!((cut("aö", 3), cut("aö", 2), cut("", 0)), ("aö", "a", ""));
        assert!(is_failure(Reject::Crashed) && is_failure(Reject::WrongHardware));
        assert!(!is_failure(Reject::Withdrawn) && !is_failure(Reject::NotGranted));
    }
}
