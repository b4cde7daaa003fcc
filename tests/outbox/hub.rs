//! The hub as far as an outbox sees it: the shipped rules, over a socket that loses, repeats and is slow.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bellwether_hub_core::Change;
use bellwether_hub_core::talk::Reply;
use bellwether_protocol::frame;
use bellwether_protocol::heapless::Vec as Few;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::manifest::{DataType, TensorSignature, TensorSpec};
use bellwether_protocol::message::Up;
use bellwether_protocol::time::Millis;
use bellwether_protocol::topic::UpTopic;
use bellwether_protocol::trust::{Batch, RecordBody};

use crate::ledger::Ledger;
use crate::mutate::Random;
use crate::records::{Number, SMALL, WIDE};
use crate::wire;
use crate::world::{World, candidate, key};

/// The director's key in the world of the rules' tests.
const DIRECTOR: u8 = 11;
/// Frames that wait to be looked at: the device waits, too.
const FRAMES_MAX: usize = 64;

/// How bad the way between device and hub is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Of a thousand frames, either way.
    pub(crate) lost: usize,
    /// Of a thousand batches: taken again later, after others.
    pub(crate) repeated: usize,
    /// Longest delay of an acknowledgement or a repetition, in milliseconds.
    pub(crate) delay_ms: usize,
}

enum Heard {
    Connected(u64, UnixStream),
    Frame(u64, Vec<u8>),
}

enum Late {
    Ack(u64, Vec<u8>),
    Batch(u64, Vec<u8>),
}

pub(crate) struct Hub {
    world: World,
    device: DeviceId,
    weather: Weather,
    heard: Receiver<Heard>,
    connection: Option<(u64, UnixStream)>,
    late: BTreeMap<(Instant, u64), Late>,
    frames: u64,
    pub(crate) ledger: Ledger,
    pub(crate) repeats: u64,
    pub(crate) losses: u64,
    /// Windows of scores and rows among what arrived.
    scores: u64,
    rows: u64,
}

impl Hub {
    /// Listens at a path of its own, with the device enrolled.
    pub(crate) fn listen(socket: &Path, weather: Weather) -> Self {
        let mut world = World::new();
        world.rules.limit_rows(u32::MAX);
        for (name, (inputs, outputs)) in [("small", SMALL), ("wide", WIDE)] {
            let mut candidate = candidate(name);
            candidate.manifest.tensors = TensorSignature { inputs: tensor("x", inputs), outputs: tensor("y", outputs) };
            world.register_as(candidate);
        }
        let device = world.enrol(0);
        let (tell, heard) = sync_channel(FRAMES_MAX);
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || accept(&listener, &tell));
        Self {
            world,
            device,
            weather,
            heard,
            connection: None,
            late: BTreeMap::new(),
            frames: 0,
            ledger: Ledger::default(),
            repeats: 0,
            losses: 0,
            scores: 0,
            rows: 0,
        }
    }

    /// Takes what comes next, or what is late, or neither within a few milliseconds.
    pub(crate) fn turn(&mut self, random: &mut Random) {
        while let Some((&(due, _), _)) = self.late.first_key_value()
            && due <= Instant::now()
        {
            match self.late.pop_first() {
                Some((_, Late::Ack(connection, frame))) => self.answer(connection, &frame),
                Some((_, Late::Batch(connection, payload))) => self.take(connection, &payload, random),
                None => {}
            }
        }
        match self.heard.recv_timeout(Duration::from_millis(2)) {
            Ok(Heard::Connected(connection, stream)) => self.connection = Some((connection, stream)),
            Ok(Heard::Frame(connection, payload)) => {
                if self.happens(self.weather.lost, random) {
                    self.losses += 1;
                    return;
                }
                if self.happens(self.weather.repeated, random) {
                    self.repeats += 1;
                    self.later(Late::Batch(connection, payload.clone()), random);
                }
                self.take(connection, &payload, random);
            }
            Err(_) => {}
        }
    }

    /// Drops the connection.
    pub(crate) fn hang_up(&mut self) {
        if let Some((_, stream)) = self.connection.take() {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Records that the hub counts as missing.
    pub(crate) fn missing(&self) -> u64 {
        self.world.rules.device(&self.device).unwrap().missing
    }

    /// Whether what the hub counts of rows and of scores is what arrived.
    pub(crate) fn agrees(&self) -> bool {
        let device = self.world.rules.device(&self.device).unwrap();
        let scored: u64 = device.scores.values().map(|totals| totals.rows).sum();
        scored == self.scores && device.collected == self.rows
    }

    fn happens(&self, of_a_thousand: usize, random: &mut Random) -> bool {
        random.below(1000) < of_a_thousand
    }

    fn later(&mut self, late: Late, random: &mut Random) {
        self.frames += 1;
        let wait = Duration::from_millis(random.below(self.weather.delay_ms + 1) as u64);
        self.late.insert((Instant::now() + wait, self.frames), late);
    }

    /// The rules take a batch; what they took is told to the ledger.
    fn take(&mut self, connection: u64, payload: &[u8], random: &mut Random) {
        let Up::Batch(signed) = frame::decode(payload).unwrap() else { panic!("the device sends batches only") };
        let batch: Batch<'_> = signed.peek().unwrap();
        let taken = |world: &World| world.rules.device(&self.device).unwrap().outboxes.get(&batch.outbox).copied();
        let before = taken(&self.world).unwrap_or(0);
        let now = Millis(self.world.now.0 + self.frames);
        let (replies, changes) = self.world.rules.hear(&self.device, UpTopic::Batch, payload, now).unwrap();
        let mut rows = Vec::new();
        for change in changes.into_list() {
            if let Change::Row(row) = &change {
                rows.push(Number::of(&row.inputs));
            }
            self.world.rules.apply(change);
        }
        let after = taken(&self.world).unwrap_or(0);
        let mut sampled = Vec::new();
        let is_new = |(number, _): &(u64, _)| *number > before && *number <= after;
        for (_, record) in (batch.first..).zip(&batch.records).filter(is_new) {
            let carried = Number::carried(record);
            sampled.extend(carried.filter(|_| matches!(record.body, RecordBody::Sample(_))));
            self.scores += u64::from(matches!(record.body, RecordBody::Scores(_)));
            self.ledger.take(carried);
        }
        self.rows += rows.len() as u64;
        assert_eq!(rows, sampled, "the rows stored are those of the records taken");
        for reply in replies {
            let Reply::Ack(outbox, through) = reply else { panic!("{reply:?} to a batch") };
            let (_, frame) = self.world.rules.ack(&self.device, outbox, through, &key(DIRECTOR)).unwrap();
            if self.happens(self.weather.lost, random) {
                self.losses += 1;
            } else {
                self.later(Late::Ack(connection, frame), random);
            }
        }
    }

    fn answer(&mut self, to: u64, frame: &[u8]) {
        if let Some((connection, stream)) = &self.connection
            && *connection == to
            && wire::send(stream, frame).is_err()
        {
            self.connection = None;
        }
    }
}

fn tensor(name: &str, width: u32) -> Few<TensorSpec, { bellwether_protocol::limit::TENSORS_MAX }> {
    let shape = [None, Some(width)].into_iter().collect();
    std::iter::once(TensorSpec { name: name.parse().unwrap(), datatype: DataType::Fp32, shape }).collect()
}

fn accept(listener: &UnixListener, tell: &SyncSender<Heard>) {
    for (connection, stream) in (1..).zip(listener.incoming()) {
        let Ok(stream) = stream else { return };
        let Ok(reader) = stream.try_clone() else { return };
        if tell.send(Heard::Connected(connection, stream)).is_err() {
            return;
        }
        let tell = tell.clone();
        thread::spawn(move || {
            while let Ok(frame) = wire::receive(&reader) {
                if tell.send(Heard::Frame(connection, frame)).is_err() {
                    return;
                }
            }
        });
    }
}
