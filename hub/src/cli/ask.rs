//! The last question before a signature, where somebody is there to answer.

use std::io::{BufRead as _, IsTerminal as _};

use super::failure::{Exit, Failure};

/// Asks at a terminal; elsewhere, or with `--yes`, whoever runs it has decided already.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if yes || !stdin.is_terminal() {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    read.map_err(|fault| Failure::error(format!("no answer was read: {fault}")))?;
    if is_yes(&line) { Ok(()) } else { Err(Failure::new(Exit::Error, "nothing was signed")) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", "Yes\r\n"].into_iter().all(is_yes));
        assert!(["", "\n", "n\n", "yo\n", "sure\n"].into_iter().all(|answer| !is_yes(answer)));
    }
}
