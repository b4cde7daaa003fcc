//! The child that has a model: limits, the package, a verdict; then it scores until nobody asks any
//! more.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Instant;

use bellwether_protocol::error::Reject;
use bellwether_protocol::limit::PACKAGE_BYTES_MAX;
use bellwether_runtime::ScoreError;
use bellwether_runtime::child::{Limits, allow_cpu, asked, close_inherited, die_with_parent};

use super::SUBCOMMAND;
use super::frames::{Broken, Connection, call, framed, response};
use crate::ended::{Verdict, own_peak};
use crate::offload::{Hosted, Meter, Setup, TELL_EVERY};

/// Exit code with a verdict that refuses the model.
const REFUSED: u8 = 3;

/// Hosts a model if the arguments say that this process is there for it.
pub(crate) fn run_if_child() -> Option<ExitCode> {
    let mut arguments = asked(SUBCOMMAND)?;
    Some(match begin(&mut arguments) {
        Ok(code) => code,
        Err(why) => {
            say(&why);
            ExitCode::FAILURE
        }
    })
}

/// The log is for people: what cannot be written there does not matter.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn begin(arguments: &mut impl Iterator<Item = OsString>) -> Result<ExitCode, String> {
    let limits = Limits::read(arguments);
    let call_seconds: Option<u64> = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    let (Some(limits), Some(call_seconds)) = (limits, call_seconds) else {
        return Err(format!("expected {SUBCOMMAND} CPU_SECONDS MEMORY_KIB CALL_CPU_SECONDS [OFFLOAD]"));
    };
    let setup: Option<Setup> = match arguments.next().map(OsString::into_encoded_bytes) {
        Some(text) => Some(serde_json::from_slice(&text).map_err(|why| format!("what to offload to: {why}"))?),
        None => None,
    };
    close_inherited().map_err(|why| format!("what was inherited cannot be closed: {why}"))?;
    limits.apply_to_begin_with().map_err(|why| format!("the limits of this process cannot be set: {why}"))?;
    // Without this an orphan lives until it next looks at its socket.
    let _ = die_with_parent();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|why| format!("no socket: {why}"))?;
    let socket = UnixStream::from(socket);
    let package = package(&socket).map_err(|why| format!("the package did not come: {why}"))?;
    say(&format!("hosting a package of {} bytes in at most {} KiB", package.len(), limits.memory_kib));
    let opened = bellwether_runtime::open(&package).and_then(|(_, scorer)| Hosted::new(scorer, &package, setup));
    drop(package);
    let mut connection = Connection::new(socket);
    let verdict = |reject: Option<Reject>, cause| Verdict { reject, cause, peak_kib: own_peak() };
    match opened {
        Ok(mut hosted) => {
            tell(&mut connection, &verdict(None, String::new()))?;
            say("loaded");
            if hosted.meter().is_some() {
                connection.look_every(TELL_EVERY).map_err(|why| format!("the socket: {why}"))?;
            }
            serve(&mut connection, &mut hosted, call_seconds).map_err(|why| format!("the agent: {why}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            say(&format!("refused: {why}"));
            tell(&mut connection, &verdict(Some(why.reject()), why.to_string()))?;
            Ok(ExitCode::from(REFUSED))
        }
    }
}

/// The package, as the agent read and hashed it.
fn package(mut socket: &UnixStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 8];
    socket.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    let came = socket.take(length.min(PACKAGE_BYTES_MAX)).read_to_end(&mut bytes)?;
    if u64::try_from(came) == Ok(length) { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

fn tell(connection: &mut Connection, verdict: &Verdict) -> Result<(), String> {
    let text = serde_json::to_vec(verdict).map_err(|why| why.to_string())?;
    let mut frame = Vec::new();
    framed(&mut frame, |frame| frame.extend(text));
    connection.send(&frame, None).map_err(|why| why.to_string())
}

/// Scores until the agent hangs up.
fn serve(connection: &mut Connection, hosted: &mut Hosted, call_seconds: u64) -> Result<(), Broken> {
    let signature = hosted.scorer().signature().clone();
    let mut frame = Vec::new();
    loop {
        let until = hosted.meter().map(|_| Instant::now() + TELL_EVERY);
        let length = match connection.receive(until) {
            Err(Broken::HungUp) => return Ok(()),
            Err(Broken::Silent) => {
                hosted.meter().into_iter().for_each(Meter::tell);
                continue;
            }
            received => received?,
        };
        // Where it cannot be set anew, what is left of it must do.
        let _ = allow_cpu(call_seconds);
        let (answers, inputs) = call(connection.frame(length), &signature.inputs);
        let result = match inputs {
            Ok(inputs) => hosted.scorer().run(&inputs),
            Err(what) => Err(ScoreError::Failed(format!("the agent sent {what}"))),
        };
        response(&mut frame, &result);
        connection.send(&frame, None)?;
        connection.settle();
        if let Some(meter) = hosted.meter() {
            if answers {
                meter.claim();
            }
            meter.tell();
        }
    }
}
