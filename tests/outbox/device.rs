//! A device in a process of its own: the agent's store and outbox, pushing as fast as they take it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bellwether_agent::{Bounds, Config, Outbox, Store, TreeRows};
use bellwether_agent_core::outbox::acknowledged;
use bellwether_protocol::frame;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::message::{Down, Up};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{FleetId, Signed, TrustedRoot, seal};

use crate::ledger::Said;
use crate::mutate::Random;
use crate::records::{self, Number};
use crate::space;
use crate::wire;
use crate::world::{DEVICE, device, key, root_with_time_key};

const DEVICE_FLAG: &str = "--device";
/// Records pushed between two flushes at most, as an agent's tick pushes what was sampled since the last.
const BURST_MAX: usize = 1_000;
/// Records that wait before a connected device pushes no more: a megabyte, so that nothing is dropped.
const WAITING_MAX: u64 = 6_000;
/// The device's clock is so much faster than ours, so that a batch is sent again after 100 ms.
const HASTE: u32 = 20;
/// Bursts from one write of the brain's state, which is small, to the next.
const STATE_EVERY: u32 = 32;

/// What a device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It sends what it pushes, all sizes.
    Connected,
    /// It connects once it has pushed all, which are rows of the larger model, into so much room.
    Away { bytes_max: u64 },
}

/// A device that runs.
pub(crate) struct Device {
    child: Child,
    /// Open for as long as it shall run.
    _stdin: ChildStdin,
    said: Arc<Mutex<Said>>,
    reader: Option<JoinHandle<()>>,
    pub(crate) started: Instant,
}

impl Device {
    /// Starts its next run, which pushes so many records.
    pub(crate) fn start(directory: &Path, socket: &Path, (run, records): (u32, u64), mode: Mode) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(DEVICE_FLAG).args([directory, socket]).args([run.to_string(), records.to_string()]);
        command.args(match mode {
            Mode::Connected => vec!["connected".to_owned()],
            Mode::Away { bytes_max } => vec!["away".to_owned(), bytes_max.to_string()],
        });
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let said = Arc::<Mutex<Said>>::default();
        let told = Arc::clone(&said);
        let reader = thread::spawn(move || {
            let mut line = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                for byte in &buffer[..read] {
                    if *byte == b'\n' {
                        note(&told, std::str::from_utf8(&line).unwrap());
                        line.clear();
                    } else {
                        line.push(*byte);
                    }
                }
            }
        });
        Self { child, _stdin: stdin, said, reader: Some(reader), started: Instant::now() }
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> Said {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// KiB of memory that it holds; fails the test if it ended by itself.
    pub(crate) fn memory_kib(&mut self) -> u64 {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the device ended by itself: {ended:?}");
        space::memory_kib(self.child.id())
    }

    /// Kills it with SIGKILL; all that it said.
    pub(crate) fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        self.said()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn note(said: &Mutex<Said>, line: &str) {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    match line.split_once(' ') {
        Some(("pushing", place)) => said.pushing = place.parse().unwrap(),
        Some(("flushed", place)) => said.flushed = place.parse().unwrap(),
        Some(("empty", newest)) => said.empty = Some(newest.parse().unwrap()),
        _ => panic!("the device says {line:?}"),
    }
}

/// Is the device, if the arguments say so.
pub(crate) fn run_if_child() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, directory, socket, run, records, mode @ ..] = arguments.as_slice() else { return None };
    if flag != DEVICE_FLAG {
        return None;
    }
    let bounds = Config::default().outbox();
    let (is_away, bounds) = match mode {
        [_, bytes_max] => (true, Bounds { bytes_max: bytes_max.parse().unwrap(), ..bounds }),
        _ => (false, bounds),
    };
    // The parent's end of it closes when the parent does, however that ends.
    thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let mut running = Running::open((directory.as_ref(), bounds), socket.into(), run.parse().unwrap());
    running.run(records.parse().unwrap(), is_away);
    Some(ExitCode::SUCCESS)
}

struct Running {
    store: Store,
    outbox: Outbox<TreeRows>,
    root: TrustedRoot,
    fleet: FleetId,
    id: DeviceId,
    socket: PathBuf,
    link: Option<(UnixStream, Receiver<Vec<u8>>)>,
    random: Random,
    run: u32,
    begun: Instant,
}

impl Running {
    fn open((directory, bounds): (&Path, Bounds), socket: PathBuf, run: u32) -> Self {
        let store = Store::open(directory).unwrap();
        let outbox = store.outbox(bounds).unwrap();
        let bytes = root_with_time_key(None);
        let signed: Signed<'_> = frame::decode(&bytes).unwrap();
        let fleet = FleetId::of_root(signed.body);
        let root = TrustedRoot::first(fleet, &signed).unwrap();
        let random = Random(u64::from(run));
        Self { store, outbox, root, fleet, id: device(0), socket, link: None, random, run, begun: Instant::now() }
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from((self.begun.elapsed() * HASTE).as_millis()).unwrap())
    }

    fn run(&mut self, records: u64, is_away: bool) {
        let last = u32::try_from(records).unwrap();
        let (mut place, mut bursts, mut is_empty) = (0, 0, false);
        loop {
            let is_done = place == last;
            if !is_done && (is_away || self.outbox.waiting() < WAITING_MAX) {
                let burst = u32::try_from(1 + self.random.below(BURST_MAX)).unwrap().min(last - place);
                self.push((place + 1, place + burst), is_away);
                place += burst;
                bursts += 1;
                if bursts % STATE_EVERY == 0 {
                    self.write_state();
                }
            }
            self.outbox.tick(self.now(), Millis(0)).unwrap();
            if !is_away || place == last {
                self.talk();
            }
            if place == last && self.outbox.waiting() == 0 && !is_empty {
                is_empty = true;
                say(format_args!("empty {}", self.outbox.newest().1));
            }
        }
    }

    /// Pushes these and brings them to disk; only then are they confirmed.
    fn push(&mut self, (from, to): (u32, u32), is_wide: bool) {
        say(format_args!("pushing {to}"));
        for place in from..=to {
            let number = Number { run: self.run, place };
            let outbox = &mut self.outbox;
            if is_wide {
                records::with_wide(number, |record| outbox.push(record)).unwrap();
            } else {
                records::with(number, |record| outbox.push(record)).unwrap();
            }
        }
        self.store.flush().unwrap();
        say(format_args!("flushed {to}"));
    }

    /// As an agent that reports.
    fn write_state(&self) {
        let mut state = self.store.state().unwrap();
        state.reports += 1;
        self.store.put_state(&state).unwrap();
    }

    /// Takes acknowledgements and sends what is due, over a new connection if the old one is gone.
    fn talk(&mut self) {
        let Some((stream, acks)) = self.link.take() else { return self.connect() };
        // With nothing to push there is nothing else to do than to wait for the hub.
        let first = acks.recv_timeout(Duration::from_micros(200));
        let is_up = !matches!(first, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
        for frame in first.into_iter().chain(acks.try_iter()) {
            let Down::Ack(signed) = frame::decode(&frame).unwrap() else { panic!("the hub sends acks only") };
            let through = acknowledged(&self.root, &self.id, self.outbox.newest(), &signed).unwrap();
            self.outbox.acknowledged(through).unwrap();
        }
        while let Some(due) = self.outbox.due(self.now()) {
            let mut body = [0; STATEMENT_BYTES_MAX];
            let signed = seal(&due.batch(&self.id), self.fleet, &key(DEVICE), &mut body).unwrap();
            let mut buffer = [0; STATEMENT_BYTES_MAX + 512];
            if wire::send(&stream, frame::encode(&Up::Batch(signed), &mut buffer).unwrap()).is_err() {
                return;
            }
        }
        self.link = is_up.then_some((stream, acks));
    }

    fn connect(&mut self) {
        self.store.next_connect().unwrap();
        let stream = UnixStream::connect(&self.socket).unwrap();
        let reader = stream.try_clone().unwrap();
        let (tell, acks) = channel();
        thread::spawn(move || {
            while let Ok(frame) = wire::receive(&reader) {
                if tell.send(frame).is_err() {
                    return;
                }
            }
        });
        self.link = Some((stream, acks));
        self.outbox.reconnected();
    }
}

/// Says a line at once: what was said before a kill is heard.
fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}
