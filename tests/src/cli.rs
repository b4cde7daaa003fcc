//! The operator's command line as a process, and what it answered.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::files::{binaries, binary, repository};

/// `bellwether` against one hub, with its own keys and tokens.
#[derive(Clone, Debug)]
pub struct Cli {
    hub: String,
    token: Option<String>,
    config: PathBuf,
    ca: Option<PathBuf>,
    environment: Vec<(String, OsString)>,
}

/// What a command answered.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its words.
    pub words: String,
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Cli {
    /// A command line for the hub at `hub`; what it keeps goes to `config`.
    #[must_use]
    pub fn new(hub: &str, token: Option<&str>, config: &Path) -> Self {
        let token = token.map(str::to_owned);
        Self { hub: hub.to_owned(), token, config: config.to_owned(), ca: None, environment: Vec::new() }
    }

    /// The same with a variable in its environment.
    #[must_use]
    pub fn with(&self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut other = self.clone();
        other.environment.push((name.to_owned(), value.as_ref().to_owned()));
        other
    }

    /// The same where no hub can be reached.
    #[must_use]
    pub fn offline(&self) -> Self {
        Self { hub: "http://127.0.0.1:9".to_owned(), token: None, ..self.clone() }
    }

    /// The same with the authority that it trusts, or with the machine's.
    #[must_use]
    pub fn with_ca(&self, ca: Option<&Path>) -> Self {
        Self { ca: ca.map(Path::to_owned), ..self.clone() }
    }

    /// The same with another token, or without one.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// The token it uses, if any.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Runs `bellwether` with these words.
    #[must_use]
    pub fn run<W: AsRef<OsStr>>(&self, words: &[W]) -> Ran {
        let mut command = Command::new(binary("bellwether"));
        command.args(words);
        self.finish(command, "")
    }

    /// Runs `bellwether` with these words and expects that it reaches its goal.
    pub fn ok<W: AsRef<OsStr>>(&self, words: &[W]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{ran}");
        ran
    }

    /// Runs it with `-o json` and reads the answer.
    #[must_use]
    pub fn json<W: AsRef<OsStr>>(&self, words: &[W]) -> Value {
        let mut all: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
        all.extend([OsStr::new("-o"), OsStr::new("json")]);
        let ran = self.ok(&all);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|why| panic!("no JSON ({why}): {ran}"))
    }

    /// Runs it with something on its standard input.
    #[must_use]
    pub fn run_with_input(&self, words: &[&str], input: &str) -> Ran {
        let mut command = Command::new(binary("bellwether"));
        command.args(words);
        self.finish(command, input)
    }

    /// Runs one line of a shell in the repository, with the programs under test on the path.
    #[must_use]
    pub fn shell(&self, line: &str) -> Ran {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(repository());
        self.finish(command, "")
    }

    fn finish(&self, mut command: Command, input: &str) -> Ran {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(binaries()).chain(std::env::split_paths(&path)));
        command
            .env("PATH", path.expect("a path without colons"))
            .env("BELLWETHER_HUB", &self.hub)
            .env("BELLWETHER_CONFIG", &self.config)
            .env_remove("BELLWETHER_TOKEN")
            .env_remove("BELLWETHER_KEYS")
            .env_remove("BELLWETHER_CA")
            .env_remove("BELLWETHER_PIN")
            .env_remove("SSH_AUTH_SOCK")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(token) = &self.token {
            command.env("BELLWETHER_TOKEN", token);
        }
        if let Some(ca) = &self.ca {
            command.env("BELLWETHER_CA", ca);
        }
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let mut child = command.spawn().expect("the command line starts");
        // A program that does not read its input closes it early, which is its right.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("the command line ends");
        Ran {
            words: words.join(" "),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Expects this exit code and a text on standard error that holds every one of `says`.
    pub fn refused(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, code, "{self}");
        for text in says {
            assert!(self.stderr.contains(text), "`{text}` is not said by {self}");
        }
        assert!(!self.stderr.contains("panicked"), "{self}");
    }

    /// The last word on standard output.
    #[must_use]
    pub fn last_word(&self) -> String {
        self.stdout.split_whitespace().last().unwrap_or_default().to_owned()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {}\n{}\n{}", self.words, self.code, self.stdout, self.stderr)
    }
}
