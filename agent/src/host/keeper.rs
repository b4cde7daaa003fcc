//! The keeper of one host: a thread that starts its process, watches over it, and starts it again.
//!
//! ```text
//!  start ──> hand over the package ──> verdict ──> up ──> its log ends ──> reap ──> tell ──> pause ─┐
//!    ^                                    └─ refused: tell, and that is all                        │
//!    └──────────────────────── the pause doubles, unless it lived for long ────────────────────────┘
//! ```
//! The process dies with the thread that started it, so the thread lives as long as the process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bellwether_protocol::error::Reject;
use bellwether_protocol::trust::Exit;
use bellwether_runtime::child::Limits;
use tracing::Span;

use super::frames::{Broken, Connection, FRAME_BYTES_MAX};
use super::{Crash, Fault, Hosts, INLINE_MAX, Place, SUBCOMMAND};
use crate::ended::{self, Ended, Verdict, died, exit_of, out_of_memory_kills, peak_of, tail};
use crate::error::Failed;
use crate::offload::{self, Origin};

/// Pause before a process is started again; doubled each time up to [`PAUSE_LAST`], and from the
/// beginning after one that lived for [`LONG_LIFE`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// A model that dies at once costs a load in this time.
const PAUSE_LAST: Duration = Duration::from_secs(30);
const LONG_LIFE: Duration = Duration::from_secs(60);
/// How often the memory of a process that serves is looked at. What it took after the last look
/// before a crash is missed.
const SAMPLE: Duration = Duration::from_millis(250);
/// How long a process that closed its log may take to end.
const LINGER: Duration = Duration::from_secs(1);
/// How often such a process is asked.
const LOOK: Duration = Duration::from_millis(2);
/// Address space beside model and package: the program, and what loading takes for a moment.
const ROOM_KIB: u64 = 256 * 1024;
/// Copies of a frame that a call has at once: as it came, as tensors, and those of the runtime.
const FRAMES: u64 = 4;

/// Between callers and keeper.
#[derive(Debug, Default)]
pub(super) struct Line {
    inner: Mutex<Inner>,
    changed: Condvar,
    slow: AtomicBool,
    /// Whether callers get what it says.
    answers: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    /// Counts the processes.
    life: u64,
    child: Option<Child>,
    /// There if the process waits for a call.
    connection: Option<Connection>,
    /// Why a caller gave it up.
    blame: Option<String>,
    /// Why the last one ended.
    cause: String,
    is_up: bool,
    is_closed: bool,
}

impl Inner {
    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended is as good.
            let _ = child.kill();
        }
    }
}

impl Line {
    /// Pointers and flags only: a panic leaves nothing half-done.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_up(&self) -> bool {
        self.lock().is_up
    }

    pub(super) fn answers(&self) {
        self.answers.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_answering(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// Lets everybody know that this takes long.
    pub(super) fn slowly<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.slow.store(true, Ordering::Relaxed);
        let result = wait();
        self.slow.store(false, Ordering::Relaxed);
        result
    }

    /// The connection to the process, for one call; or why there is none.
    pub(super) fn take(&self) -> Result<(u64, Connection), String> {
        let mut inner = self.lock();
        let taken = inner.connection.take().map(|connection| (inner.life, connection));
        taken.ok_or_else(
            || if inner.cause.is_empty() { "it has not loaded yet".to_owned() } else { inner.cause.clone() },
        )
    }

    /// The connection after a call that was answered.
    pub(super) fn put(&self, life: u64, connection: Connection) {
        let mut inner = self.lock();
        if inner.life == life && inner.is_up && !inner.is_closed {
            inner.connection = Some(connection);
        }
    }

    /// The process is of no use any more, and why, if a caller knows.
    pub(super) fn give_up(&self, life: u64, blame: Option<String>) {
        let mut inner = self.lock();
        if inner.life == life {
            inner.is_up = false;
            inner.blame = blame;
            inner.kill();
        }
    }

    /// Nobody will call any more.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        (inner.is_up, inner.connection) = (false, None);
        inner.kill();
        self.changed.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn begin(&self, child: Child) {
        let mut inner = self.lock();
        inner.life += 1;
        (inner.child, inner.blame) = (Some(child), None);
        if inner.is_closed {
            inner.kill();
        }
    }

    fn up(&self, connection: Connection) {
        let mut inner = self.lock();
        if !inner.is_closed {
            (inner.is_up, inner.connection) = (true, Some(connection));
        }
    }

    fn kill(&self) {
        self.lock().kill();
    }

    /// Waits for the end of a process whose log has ended, which is its own end as a rule.
    fn reap(&self) -> Exit {
        let begun = Instant::now();
        loop {
            let mut inner = self.lock();
            let waited = inner.child.as_mut().map(Child::try_wait);
            if let Some(Ok(None)) = waited {
                if begun.elapsed() >= LINGER {
                    inner.kill();
                }
                drop(inner);
                thread::sleep(LOOK);
                continue;
            }
            (inner.child, inner.connection, inner.is_up) = (None, None, false);
            return waited.and_then(Result::ok).flatten().map_or(Exit::Code(-1), exit_of);
        }
    }

    /// Sleeps so long, or until it is closed; whether it is.
    fn rests(&self, pause: Duration) -> bool {
        let inner = self.lock();
        let waited = self.changed.wait_timeout_while(inner, pause, |inner| !inner.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }
}

/// Who keeps a host.
pub(super) struct Keeper {
    hosts: Hosts,
    place: Place,
    line: Arc<Line>,
    span: Span,
}

/// A process that runs.
struct Begun {
    id: u32,
    connection: Connection,
    log: Receiver<Vec<u8>>,
    peak_kib: u32,
}

impl Keeper {
    pub(super) fn new(hosts: Hosts, place: Place, line: Arc<Line>) -> Self {
        Self { hosts, place, line, span: Span::current() }
    }

    /// Keeps the host in a thread of its own, and says how its first process began.
    pub(super) fn spawn(self, package: Vec<u8>, first: Sender<Result<(), Fault>>) -> io::Result<()> {
        let thread = thread::Builder::new().name("host".into());
        thread.spawn(move || {
            let span = self.span.clone();
            let _agent = span.entered();
            self.keep(package, first);
        })?;
        Ok(())
    }

    fn keep(&self, package: Vec<u8>, first: Sender<Result<(), Fault>>) {
        let (mut package, mut first, mut pause) = (Ok(package), Some(first), PAUSE_FIRST);
        loop {
            let begun = Instant::now();
            let fault = match package {
                Ok(package) => self.live(package, &mut first),
                Err(failed) => Fault::Refused(failed),
            };
            if self.line.is_closed() {
                return;
            }
            let is_final = matches!(fault, Fault::Refused(_));
            self.tell(fault, &mut first);
            if is_final {
                return;
            }
            if begun.elapsed() >= LONG_LIFE {
                pause = PAUSE_FIRST;
            }
            if self.line.rests(pause) {
                return;
            }
            pause = (pause * 2).min(PAUSE_LAST);
            let Place { dir, held, .. } = &self.place;
            package = dir.read(held.slot, &held.target.package);
        }
    }

    /// Tells whoever waits for the first process, else the agent's loop.
    fn tell(&self, fault: Fault, first: &mut Option<Sender<Result<(), Fault>>>) {
        if let Some(first) = first.take() {
            // Nobody waits any more when the agent is stopping.
            let _ = first.send(Err(fault));
            return;
        }
        let is_final = matches!(fault, Fault::Refused(_));
        let (name, running) = (self.place.name.clone(), self.place.held.target.running);
        let crash = Crash { name, running, failed: fault.into_failed(), is_final };
        let _ = self.hosts.crashes.blocking_send(crash);
    }

    /// One process from its start to its end.
    fn live(&self, package: Vec<u8>, first: &mut Option<Sender<Result<(), Fault>>>) -> Fault {
        let kills = out_of_memory_kills();
        let mut begun = match self.begin(package.len()) {
            Ok(begun) => begun,
            Err(why) => return Fault::Died(self.hosts.cannot_run(&why)),
        };
        let mut refused = None;
        match self.load(&mut begun, &package) {
            Ok(Verdict { reject: None, peak_kib, .. }) => {
                drop(package);
                begun.peak_kib = begun.peak_kib.max(peak_kib);
                tracing::info!(model = %self.place.name, version = %self.place.held.target.running.version,
                    pid = begun.id, peak_kib = begun.peak_kib, "the model's process is ready");
                let Begun { id, connection, log, peak_kib } = begun;
                self.line.up(connection);
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(()));
                }
                return self.watch(id, &log, peak_kib, kills, None);
            }
            Ok(Verdict { reject: Some(reject), cause, peak_kib }) => {
                begun.peak_kib = begun.peak_kib.max(peak_kib);
                refused = Some((reject, cause));
            }
            Err(Some(blame)) => {
                self.line.lock().blame = Some(blame);
                self.line.kill();
            }
            Err(None) => self.line.kill(),
        }
        self.watch(begun.id, &begun.log, begun.peak_kib, kills, refused)
    }

    fn begin(&self, package_bytes: usize) -> io::Result<Begun> {
        let (ours, theirs) = UnixStream::pair()?;
        for timeout in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            timeout(&ours, Some(INLINE_MAX))?;
        }
        let package_kib = u64::try_from(package_bytes / 1024).unwrap_or(u64::MAX);
        let model_kib = u64::from(self.hosts.memory_kib).saturating_add(package_kib.saturating_mul(2));
        let frames_kib = FRAMES * u64::try_from(FRAME_BYTES_MAX / 1024).unwrap_or(0);
        let limits = Limits {
            cpu_seconds: self.hosts.patience.as_secs().saturating_add(1),
            memory_kib: model_kib.saturating_add(ROOM_KIB).saturating_add(frames_kib),
        };
        let mut command = ended::command(self.hosts.program.as_ref(), SUBCOMMAND);
        command.args(limits.arguments()).arg(self.hosts.call.as_secs().saturating_add(1).to_string());
        let mut says = Stdio::null();
        if let Some((setup, _)) = &self.hosts.offload {
            command.arg(serde_json::to_string(setup.as_ref())?);
            says = Stdio::piped();
        }
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(says).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // The child's end of the socket must be the child's alone, or its death would not be heard.
        drop(command);
        let (id, stderr) = (child.id(), child.stderr.take());
        if let Err(why) = self.listen(&mut child) {
            ended::end(&mut child);
            return Err(why);
        }
        let (log_to, log) = mpsc::channel();
        let reader = thread::Builder::new().name("host-log".into()).spawn(move || {
            // Nobody waits for it only when its keeper has failed.
            let _ = log_to.send(stderr.map(tail).unwrap_or_default());
        });
        if let Err(why) = reader {
            ended::end(&mut child);
            return Err(why);
        }
        self.line.begin(child);
        Ok(Begun { id, connection: Connection::new(ours), log, peak_kib: 0 })
    }

    /// Has somebody listen to what the process says of its offload.
    fn listen(&self, child: &mut Child) -> io::Result<()> {
        let (Some((_, told)), Some(says)) = (&self.hosts.offload, child.stdout.take()) else { return Ok(()) };
        let origin = Origin { name: self.place.name.clone(), running: self.place.held.target.running };
        let told = told.clone();
        thread::Builder::new().name("host-offload".into()).spawn(move || offload::listen(says, &origin, &told))?;
        Ok(())
    }

    /// Hands over the package and waits for the verdict; an error is the blame, if it is not in how
    /// the process ends.
    fn load(&self, begun: &mut Begun, package: &[u8]) -> Result<Verdict, Option<String>> {
        let until = Instant::now() + self.hosts.patience;
        let too_long = || Some(format!("it took longer than {} ms to load", self.hosts.patience.as_millis()));
        let blame = |broken| match broken {
            Broken::Silent => too_long(),
            Broken::Garbled(what) => Some(format!("it sent {what} for a verdict")),
            Broken::HungUp | Broken::Socket(_) => None,
        };
        let connection = &mut begun.connection;
        let length = u64::try_from(package.len()).unwrap_or(u64::MAX).to_le_bytes();
        connection.send(&length, Some(until)).map_err(blame)?;
        connection.send(package, Some(until)).map_err(blame)?;
        loop {
            match connection.receive(Some(Instant::now())) {
                Ok(length) => {
                    let verdict = serde_json::from_slice(connection.frame(length));
                    return verdict.map_err(|_| Some("it sent a verdict that does not read".to_owned()));
                }
                Err(Broken::Silent) if Instant::now() < until && !self.line.is_closed() => {
                    begun.peak_kib = begun.peak_kib.max(peak_of(begun.id));
                }
                Err(broken) => return Err(blame(broken)),
            }
        }
    }

    /// Waits for the end of a process, and says what that means.
    fn watch(
        &self,
        id: u32,
        log: &Receiver<Vec<u8>>,
        mut peak_kib: u32,
        kills: u64,
        refused: Option<(Reject, String)>,
    ) -> Fault {
        let log = loop {
            match log.recv_timeout(SAMPLE) {
                Ok(log) => break log,
                Err(RecvTimeoutError::Disconnected) => break Vec::new(),
                Err(RecvTimeoutError::Timeout) => peak_kib = peak_kib.max(peak_of(id)),
            }
        };
        let exit = self.line.reap();
        let is_refused = refused.is_some();
        let blame = self.line.lock().blame.take();
        let (reject, cause) = refused.unwrap_or_else(|| match blame {
            Some(blame) => (Reject::Crashed, format!("the model's process was ended: {blame}")),
            None => died("the model's process", exit, &log, out_of_memory_kills() > kills),
        });
        self.line.lock().cause.clone_from(&cause);
        if self.line.is_closed() {
            tracing::debug!(pid = id, peak_kib, "the model's process is not needed any more");
        } else {
            tracing::warn!(model = %self.place.name, version = %self.place.held.target.running.version,
                pid = id, ?exit, peak_kib, cause, "the model's process ended");
        }
        let failed = Failed { reject, cause, ended: Some(Ended { exit, peak_kib, log }) };
        if is_refused { Fault::Refused(failed) } else { Fault::Died(failed) }
    }
}
