//! Children side by side: each opens model after model until one ends it, and then another takes its
//! place. A model that ended a child is opened again in a fresh one, so that it alone is blamed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bellwether_runtime::child::{Limits, this_program};

use crate::worker::{Outcome, SUBCOMMAND};

/// CPU time of one model, in seconds, opened alone.
pub(crate) const CPU_SECONDS: u64 = 10;
/// Address space of a child, in KiB.
pub(crate) const MEMORY_KIB: u64 = 512 * 1024;
/// Longest wait for one model in a child that opens many: then it is opened alone.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a child that has the model alone: its CPU time ends it first, unless it sleeps.
const PATIENCE_ALONE: Duration = Duration::from_secs(60);
/// Models after which a child is replaced, so that what leaks is not blamed on the last.
const MODELS_MAX: usize = 500;
/// Children side by side.
const CHILDREN: usize = 2;

struct Worker {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    opened: usize,
}

impl Worker {
    fn start(cpu_seconds: u64) -> Self {
        let limits = Limits { cpu_seconds, memory_kib: MEMORY_KIB };
        let mut command = Command::new(this_program());
        command.arg(SUBCOMMAND).args(limits.arguments());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("this program starts again");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (to, answers) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Self { child, input, answers, opened: 0 }
    }

    fn open(&mut self, model: &[u8], patience: Duration) -> Outcome {
        self.opened += 1;
        let length = u32::try_from(model.len()).expect("a model of the corpus").to_le_bytes();
        // A child that has ended takes nothing, and its end says why.
        let _ =
            self.input.write_all(&length).and_then(|()| self.input.write_all(model)).and_then(|()| self.input.flush());
        match self.answers.recv_timeout(patience) {
            Ok(line) => serde_json::from_str(&line).expect("a child answers with an outcome"),
            Err(RecvTimeoutError::Timeout) => Outcome::TooLong,
            Err(RecvTimeoutError::Disconnected) => Outcome::Died(self.child.wait().expect("it ends").to_string()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of one model, and how long that took.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

/// Opens a model in a child of its own.
fn alone(model: &[u8]) -> Opened {
    let begun = Instant::now();
    let outcome = Worker::start(CPU_SECONDS).open(model, PATIENCE_ALONE);
    Opened { outcome, took: begun.elapsed() }
}

/// Opens models until `next` has no more; `done` hears of each.
pub(crate) fn open_all<M: AsRef<[u8]>>(
    next: impl Fn(usize) -> Option<M> + Sync,
    done: impl Fn(usize, M, Opened) + Sync,
) {
    let number = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CHILDREN {
            scope.spawn(|| {
                let fresh = || Worker::start(CPU_SECONDS * MODELS_MAX as u64);
                let mut worker = fresh();
                loop {
                    let index = number.fetch_add(1, Ordering::Relaxed);
                    let Some(model) = next(index) else { break };
                    let begun = Instant::now();
                    let mut opened = Opened { outcome: worker.open(model.as_ref(), PATIENCE), took: begun.elapsed() };
                    if !opened.outcome.is_survived() {
                        opened = alone(model.as_ref());
                    }
                    if !opened.outcome.is_survived()
                        || worker.opened >= MODELS_MAX
                        || worker.child.try_wait().is_ok_and(|end| end.is_some())
                        || opened.took >= PATIENCE
                    {
                        worker = fresh();
                    }
                    done(index, model, opened);
                }
            });
        }
    });
}

/// What a lock guards, whoever panicked under it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
