//! Exit codes, a tested contract, and what is said on stderr: the cause, then the next step.

use std::process::ExitCode;

use crate::client::ClientError;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Ok = 0,
    Error = 1,
    Usage = 2,
    RolloutFailed = 3,
    NotAllowed = 4,
    NotFound = 5,
    Conflict = 6,
    Timeout = 7,
    Waits = 8,
    Interrupted = 130,
}

impl Exit {
    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    /// The end of a process that ran a command.
    pub(super) fn of(code: i32) -> Self {
        const ALL: [Exit; 10] = [
            Exit::Ok,
            Exit::Usage,
            Exit::RolloutFailed,
            Exit::NotAllowed,
            Exit::NotFound,
            Exit::Conflict,
            Exit::Timeout,
            Exit::Waits,
            Exit::Interrupted,
            Exit::Error,
        ];
        ALL.into_iter().find(|exit| *exit as i32 == code).unwrap_or(Self::Error)
    }
}

/// Why a command did not reach its goal.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    what: String,
    next: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: None }
    }

    pub(super) fn error(what: impl Into<String>) -> Self {
        Self::new(Exit::Error, what)
    }

    /// The same failure with a next step.
    pub(super) fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }

    /// A file that could not be read or written.
    pub(super) fn file(path: &std::path::Path, fault: &std::io::Error) -> Self {
        let exit = if fault.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Error };
        Self::new(exit, format!("{}: {fault}", path.display()))
    }

    /// Says it on stderr.
    pub(super) fn report(&self) -> Exit {
        eprintln!("bellwether: {}", self.what);
        if let Some(next) = &self.next {
            eprintln!("  next: {next}");
        }
        self.exit
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error.problem().map(|problem| problem.status) {
            Some(401 | 403) => Exit::NotAllowed,
            Some(404) => Exit::NotFound,
            Some(409 | 412 | 428) => Exit::Conflict,
            _ => Exit::Error,
        };
        Self { exit, what: error.to_string(), next: error.hint() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::Problem;

    #[test]
    fn refusals_of_the_hub_become_exit_codes() {
        let exit = |problem: Problem| Failure::from(ClientError::Refused(Box::new(problem))).exit;
        assert_eq!(exit(Problem::unauthenticated("x")), Exit::NotAllowed);
        assert_eq!(exit(Problem::forbidden("x")), Exit::NotAllowed);
        assert_eq!(exit(Problem::not_found("x", "x")), Exit::NotFound);
        assert_eq!(exit(Problem::not_now("x")), Exit::Conflict);
        assert_eq!(exit(Problem::internal("x")), Exit::Error);
    }
}
