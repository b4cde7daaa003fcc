//! The PIN of a token: from the environment or asked for without an echo, never from an argument,
//! which every process on the machine can read.

use std::io::{BufRead as _, IsTerminal as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cli::failure::{Exit, Failure};

/// Where a script puts it.
const VARIABLE: &str = "BELLWETHER_PIN";

/// The PIN of the token with this label.
pub(super) fn ask(label: &str) -> Result<String, Failure> {
    if let Ok(pin) = std::env::var(VARIABLE) {
        return Ok(pin);
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(Exit::Usage, format!("the token {label} needs its PIN, and nobody is there to ask"))
            .next(format!("run it at a terminal, or set {VARIABLE}")));
    }
    let fault = |fault: rustix::io::Errno| Failure::error(format!("the terminal does not hide what is typed: {fault}"));
    let shown = tcgetattr(&stdin).map_err(fault)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(fault)?;
    eprint!("PIN of the token {label}: ");
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &shown).map_err(fault)?;
    eprintln!();
    read.map_err(|fault| Failure::error(format!("no PIN was read: {fault}")))?;
    match line.trim_end_matches(['\r', '\n']) {
        // Whoever changed their mind must not use up one of the token's tries.
        "" => Err(Failure::new(Exit::Error, "no PIN was given; nothing was signed")),
        pin => Ok(pin.to_owned()),
    }
}
