//! Bounded children: what a stranger's model may do ends at a process of its own, with limits on its
//! CPU time and memory.
//!
//! A program that opens packages nobody approved yet, or that never ran here, starts itself again
//! under a hidden subcommand. The parent hands over [`Limits::arguments`]; the child asks
//! [`asked`] first thing in `main`, reads its limits and applies them to itself.

use std::env::ArgsOs;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::Signal;

/// Number of the signal that ends a child past its CPU time.
pub const CPU_SIGNAL: i32 = Signal::SIGXCPU as i32;
/// Number of the signal with which a program ends itself, as Rust does where memory is refused.
pub const ABORT_SIGNAL: i32 = Signal::SIGABRT as i32;
/// Number of the signal of a parent that has waited enough, and of a kernel that is out of memory.
pub const KILL_SIGNAL: i32 = Signal::SIGKILL as i32;

/// What a child may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time, in seconds; past it comes [`CPU_SIGNAL`], and a second later [`KILL_SIGNAL`].
    pub cpu_seconds: u64,
    /// Address space, in KiB: the program itself counts.
    pub memory_kib: u64,
}

impl Limits {
    /// As two arguments, which [`Limits::read`] reads.
    #[must_use]
    pub fn arguments(self) -> [String; 2] {
        [self.cpu_seconds.to_string(), self.memory_kib.to_string()]
    }

    /// Reads the next two arguments.
    pub fn read(arguments: &mut impl Iterator<Item = OsString>) -> Option<Self> {
        let mut number = || arguments.next()?.to_str()?.parse::<u64>().ok();
        Some(Self { cpu_seconds: number()?, memory_kib: number()? })
    }

    /// Bounds this process for good. It leaves no core file, and is the first to go when the machine
    /// is out of memory.
    ///
    /// # Errors
    ///
    /// The operating system's, if it refuses a limit.
    pub fn apply(self) -> io::Result<()> {
        setrlimit(Resource::RLIMIT_CPU, self.cpu_seconds, self.cpu_seconds.saturating_add(1))?;
        self.apply_memory()
    }

    /// As [`Limits::apply`], for a process that works as long as it is asked to: its CPU time is what
    /// it may take before [`allow_cpu`] gives it more.
    ///
    /// # Errors
    ///
    /// The operating system's, if it refuses a limit.
    pub fn apply_to_begin_with(self) -> io::Result<()> {
        allow_cpu(self.cpu_seconds)?;
        self.apply_memory()
    }

    fn apply_memory(self) -> io::Result<()> {
        let bytes = self.memory_kib.saturating_mul(1024);
        setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        // Where this cannot be said, the kernel chooses by itself.
        let _said = std::fs::write("/proc/self/oom_score_adj", "1000");
        Ok(())
    }
}

/// Allows this process so many seconds of CPU time from now on; past them comes [`CPU_SIGNAL`]. What
/// was allowed before is over. Takes a microsecond.
///
/// # Errors
///
/// The operating system's.
pub fn allow_cpu(seconds: u64) -> io::Result<()> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let spent = usage.user_time().tv_sec().saturating_add(usage.system_time().tv_sec());
    // Both are rounded down.
    let at = u64::try_from(spent).unwrap_or(0).saturating_add(seconds).saturating_add(2);
    let (_, most) = getrlimit(Resource::RLIMIT_CPU)?;
    Ok(setrlimit(Resource::RLIMIT_CPU, at.min(most), most)?)
}

/// Closes everything that this process inherited beside its three standard streams.
///
/// # Errors
///
/// The operating system's, if it does not say what is open.
pub fn close_inherited() -> io::Result<()> {
    const STANDARD_LAST: i32 = 2;
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|file| *file > STANDARD_LAST)
        .collect();
    for file in open {
        // The one through which they were listed is closed already.
        let _ = nix::unistd::close(file);
    }
    Ok(())
}

/// Ends this process when the thread that started it ends.
///
/// # Errors
///
/// The operating system's.
pub fn die_with_parent() -> io::Result<()> {
    Ok(set_pdeathsig(Signal::SIGKILL)?)
}

/// The program that runs now, also when its file was replaced since it was started.
#[must_use]
pub fn this_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// The arguments after `subcommand`, if that is what this process was started for.
#[must_use]
pub fn asked(subcommand: &str) -> Option<ArgsOs> {
    let mut arguments = std::env::args_os();
    let _program = arguments.next();
    (arguments.next()? == *subcommand).then_some(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_travel_as_arguments() {
        let limits = Limits { cpu_seconds: 60, memory_kib: 1 << 21 };
        let mut arguments = limits.arguments().into_iter().map(OsString::from);
        assert_eq!(Limits::read(&mut arguments), Some(limits));
        assert_eq!(Limits::read(&mut ["60", "much"].into_iter().map(OsString::from)), None);
        assert_eq!(asked("no such subcommand").map(|_| ()), None);
    }
}
