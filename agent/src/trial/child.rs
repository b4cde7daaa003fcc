//! The child of a trial: limits, then the same checks that the agent does, then a verdict.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_runtime::child::{Limits, asked, die_with_parent};

use super::SUBCOMMAND;
use crate::ended::{Verdict, own_peak};
use crate::error::Failed;
use crate::slot;

/// Exit code with a verdict that refuses the model.
const REFUSED: u8 = 3;

/// Tries a package if the arguments say that this process is there for it.
pub(crate) fn run_if_child() -> Option<ExitCode> {
    let mut arguments = asked(SUBCOMMAND)?;
    let mut log = std::io::stderr();
    // The log is for people: what cannot be written there is in the verdict all the same.
    let verdict = match attempt(&mut arguments, &mut log) {
        Ok(()) => Verdict { reject: None, cause: String::new(), peak_kib: own_peak() },
        Err(why) => {
            let _ = writeln!(log, "refused: {}", why.cause);
            Verdict { reject: Some(why.reject), cause: why.cause, peak_kib: own_peak() }
        }
    };
    let is_told = serde_json::to_writer(std::io::stdout().lock(), &verdict).is_ok();
    Some(match verdict.reject {
        None if is_told => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
        Some(_) => ExitCode::from(REFUSED),
    })
}

fn attempt(arguments: &mut impl Iterator<Item = OsString>, log: &mut impl std::io::Write) -> Result<(), Failed> {
    let crashed = |cause: String| Failed { reject: Reject::Crashed, cause, ended: None };
    let limits = Limits::read(arguments);
    let mut text = || arguments.next().and_then(|text| text.into_string().ok());
    let digest: Option<Digest> = text().and_then(|text| text.parse().ok());
    let size: Option<u64> = text().and_then(|text| text.parse().ok());
    let (Some(limits), Some(digest), Some(size), Some(file)) =
        (limits, digest, size, arguments.next().map(PathBuf::from))
    else {
        return Err(crashed(format!("expected {SUBCOMMAND} CPU_SECONDS MEMORY_KIB DIGEST SIZE FILE")));
    };
    limits.apply().map_err(|why| crashed(format!("the self-test's limits cannot be set: {why}")))?;
    // Without this an orphan lives until its CPU time is over, and no longer.
    let _ = die_with_parent();
    let _ = writeln!(log, "trying a package of {size} bytes in at most {} KiB", limits.memory_kib);
    let bytes = slot::read_approved(&file, digest, size)?;
    let (examined, _scorer) = bellwether_runtime::open(&bytes)?;
    let golden = examined.golden.map_or_else(|| "it has no golden vectors".to_owned(), |golden| golden.to_string());
    let _ = writeln!(log, "loaded; {golden}");
    Ok(())
}
