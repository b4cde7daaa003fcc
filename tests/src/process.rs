//! A program that runs beside the test: its output is kept, it is killed by its id when dropped,
//! and what it said is shown when the test fails.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines shown of a process when its test fails.
const SHOWN_LINES: usize = 60;

type Lines = Arc<Mutex<Vec<String>>>;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// Starts it.
    #[must_use]
    pub fn start(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|why| panic!("{name} does not start: {why}"));
        let stdout = kept(child.stdout.take().expect("it is piped"));
        let stderr = kept(child.stderr.take().expect("it is piped"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Waits for a line on standard output that begins with `start`, and gives the rest of it.
    #[must_use]
    pub fn line(&mut self, start: &str) -> String {
        self.line_of(start, |process| process.stdout())
    }

    /// As [`Process::line`], on standard error.
    #[must_use]
    pub fn error_line(&mut self, start: &str) -> String {
        self.line_of(start, |process| process.stderr())
    }

    fn line_of(&mut self, start: &str, stream: impl Fn(&Self) -> String) -> String {
        let patience = Duration::from_secs(20);
        let begun = Instant::now();
        loop {
            let ended = self.ended();
            let text = stream(self);
            let found = text.lines().find_map(|line| line.trim_start().strip_prefix(start));
            if let Some(rest) = found {
                return rest.trim().to_owned();
            }
            assert!(ended.is_none(), "{} ended ({ended:?}) before `{start}`\n{self}", self.name);
            assert!(begun.elapsed() < patience, "{} never said `{start}`\n{self}", self.name);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Waits for its end.
    pub fn end(&mut self, patience: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                // Its last words may still be on their way through the pipes.
                thread::sleep(Duration::from_millis(20));
                return status;
            }
            assert!(begun.elapsed() < patience, "{} does not end\n{self}", self.name);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} takes no {name}", self.name);
    }

    /// Ends it as a power cut would, and waits for that.
    pub fn kill(&mut self) {
        let killed = self.child.kill();
        assert!(killed.is_ok(), "{} cannot be killed: {killed:?}", self.name);
        self.child.wait().expect("a killed child ends");
    }

    /// Ends it in good order.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.end(Duration::from_secs(15))
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (stream, text) in [("out", self.stdout()), ("err", self.stderr())] {
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                writeln!(f, "  {} {stream}| {line}", self.name)?;
            }
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{self}");
        }
        // It may have ended by itself, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kept(pipe: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
    lines
}

fn text(lines: &Lines) -> String {
    lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
}
