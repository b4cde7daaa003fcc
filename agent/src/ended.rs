//! How a child ended: its exit, its memory, the end of its log, and what that means.
//!
//! Peak memory is `VmHWM` and not `ru_maxrss`: that one is inherited through `exec`, so the child of
//! an agent that once took 300 MiB would never have taken less.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use bellwether_protocol::error::Reject;
use bellwether_protocol::limit::LOG_BYTES_MAX;
use bellwether_protocol::trust::Exit;
use bellwether_runtime::child::{ABORT_SIGNAL, CPU_SIGNAL, KILL_SIGNAL, this_program};
use serde::{Deserialize, Serialize};

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// Most memory it took, in KiB; 0 if not known.
    pub(crate) peak_kib: u32,
    /// The end of what it logged, at most [`LOG_BYTES_MAX`].
    pub(crate) log: Vec<u8>,
}

/// What a child says of the package it was given.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Why the model is refused, if it is.
    pub(crate) reject: Option<Reject>,
    pub(crate) cause: String,
    pub(crate) peak_kib: u32,
}

/// The program that children run, and how it is started under a hidden subcommand.
pub(crate) fn command(program: Option<&PathBuf>, subcommand: &str) -> Command {
    let mut command = Command::new(program_of(program));
    command.arg(subcommand);
    // Tokens and the like are no business of a process that runs a stranger's model.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"BELLWETHER_")) {
        command.env_remove(name);
    }
    command
}

/// The program named, else the one that runs.
pub(crate) fn program_of(program: Option<&PathBuf>) -> PathBuf {
    program.cloned().unwrap_or_else(this_program)
}

/// Ends a child; one that has ended already is as good.
pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// What a death without a verdict means; `what` is what the child was there for.
pub(crate) fn died(what: &str, exit: Exit, log: &[u8], is_memory_out: bool) -> (Reject, String) {
    // What Rust's standard library says before it aborts.
    const NO_MEMORY: &[u8] = b"memory allocation of";
    let refused = log.windows(NO_MEMORY.len()).any(|window| window == NO_MEMORY);
    match exit {
        Exit::Signal(CPU_SIGNAL) => (Reject::SelfTestTimeout, format!("{what} took too much CPU time")),
        Exit::Signal(ABORT_SIGNAL) if refused => {
            (Reject::NotEnoughMemory, format!("{what} took more memory than a model may take here"))
        }
        Exit::Signal(KILL_SIGNAL) if is_memory_out => {
            (Reject::NotEnoughMemory, format!("the kernel ended {what} when the machine was out of memory"))
        }
        Exit::Signal(signal) => (Reject::Crashed, format!("{what} was ended by a {}", ExitStatus::from_raw(signal))),
        Exit::Code(code) => (Reject::Crashed, format!("{what} ended with code {code} and without a verdict")),
    }
}

pub(crate) fn exit_of(status: ExitStatus) -> Exit {
    status.signal().map_or_else(|| Exit::Code(status.code().unwrap_or(-1)), Exit::Signal)
}

/// The last [`LOG_BYTES_MAX`] of a stream, read to its end.
pub(crate) fn tail(mut from: impl Read) -> Vec<u8> {
    let (mut last, mut buffer) = (Vec::new(), [0; LOG_BYTES_MAX]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return last,
            Ok(count) => last.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return last,
        }
        last.drain(..last.len().saturating_sub(LOG_BYTES_MAX));
    }
}

/// Most memory that a process took so far, in KiB; 0 if it has ended.
pub(crate) fn peak_of(process: u32) -> u32 {
    peak(&format!("/proc/{process}/status"))
}

/// Most memory that this process took so far, in KiB.
pub(crate) fn own_peak() -> u32 {
    peak("/proc/self/status")
}

fn peak(status: &str) -> u32 {
    let read = || {
        let text = std::fs::read_to_string(status).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    read().unwrap_or(0)
}

/// How often the kernel has ended a process for want of memory, if it says so.
pub(crate) fn out_of_memory_kills() -> u64 {
    let read = || {
        let text = std::fs::read_to_string("/proc/vmstat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    };
    read().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_without_a_verdict_is_told_apart() {
        let reject = |exit, log: &[u8], memory| died("the self-test", exit, log, memory).0;
        assert_eq!(reject(Exit::Signal(CPU_SIGNAL), b"", false), Reject::SelfTestTimeout);
        assert_eq!(reject(Exit::Signal(KILL_SIGNAL), b"", true), Reject::NotEnoughMemory);
        assert_eq!(reject(Exit::Signal(KILL_SIGNAL), b"", false), Reject::Crashed);
        let said = b"memory allocation of 99 bytes failed";
        assert_eq!(reject(Exit::Signal(ABORT_SIGNAL), said, false), Reject::NotEnoughMemory);
        assert_eq!(reject(Exit::Signal(ABORT_SIGNAL), b"double free", false), Reject::Crashed);
        assert_eq!(reject(Exit::Code(0), said, false), Reject::Crashed);
        let cause = died("the self-test", Exit::Signal(11), b"", false).1;
        assert!(cause.contains("signal: 11 (SIGSEGV)"), "{cause}");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_kept() {
        let long: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(tail(long.as_slice()), long[long.len() - LOG_BYTES_MAX..]);
        assert_eq!(tail(&b"short"[..]), b"short");
    }
}
