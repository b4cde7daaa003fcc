//! A million records through a hundred kills.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::device::{Device, Mode};
use crate::hub::{Hub, Weather};
use crate::ledger::Said;
use crate::mutate::Random;
use crate::space::Space;

const KILLS: usize = 100;
/// Of a hundred kills, those that come while the device is starting, within so many milliseconds.
const AT_START: usize = 20;
const START_MS: usize = 60;
/// Records from one connection that the hub drops to the next.
const HANG_UP_EVERY: u64 = 17_000;
const WEATHER: Weather = Weather { lost: 2, repeated: 20, delay_ms: 4 };
/// The whole must not take longer: then something hangs.
const PATIENCE: Duration = Duration::from_secs(400);
/// The device's directory may take this much: what may wait (6,000 records of some 200 bytes), as much
/// again that was removed and not yet written over, and the store's own segments and snapshot. A store
/// that kept what was removed would take 200 MiB.
const DISK_KIB_MAX: u64 = 32 * 1024;
/// Memory: the store's cache, its buffers, and the test itself.
const MEMORY_KIB_MAX: u64 = 64 * 1024;

/// When the device is killed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    AtStart(Duration),
    OnceArrived(u64),
    NoMore,
}

/// The runs of the device.
struct Runs {
    data: PathBuf,
    socket: PathBuf,
    records: u64,
    /// What each said before it was killed, the first first.
    said: Vec<Said>,
}

impl Runs {
    fn confirmed(&self) -> u64 {
        self.said.iter().map(|said| u64::from(said.flushed)).sum()
    }

    fn start(&self) -> Device {
        let number = u32::try_from(self.said.len() + 1).unwrap();
        let left = self.records.saturating_sub(self.confirmed());
        Device::start(&self.data, &self.socket, (number, left), Mode::Connected)
    }

    fn next_kill(&self, random: &mut Random) -> Kill {
        let kills = self.said.len();
        if kills >= KILLS {
            return Kill::NoMore;
        }
        if random.below(100) < AT_START {
            return Kill::AtStart(Duration::from_millis(random.below(START_MS) as u64));
        }
        let each = self.records / (KILLS as u64 + 1);
        Kill::OnceArrived(each * (kills as u64 + 1) - random.below(usize::try_from(each).unwrap()) as u64 / 2)
    }
}

pub(crate) fn through_a_hundred_kills_nothing_is_lost_and_nothing_comes_twice(records: u64, random: &mut Random) {
    let home = tempfile::tempdir().unwrap();
    let (data, socket) = (home.path().join("device"), home.path().join("hub"));
    std::fs::create_dir(&data).unwrap();
    let mut hub = Hub::listen(&socket, WEATHER);
    let mut space = Space::of(&data);
    let mut runs = Runs { data, socket, records, said: Vec::new() };
    let mut device = runs.start();
    let mut kill = runs.next_kill(random);
    let begun = Instant::now();
    let (mut hang_up_at, mut tell_at) = (HANG_UP_EVERY, records / 10);
    // Once it has nothing to say any more, no further record brings the next kill.
    while matches!(kill, Kill::AtStart(_)) || device.said().empty.is_none() {
        assert!(begun.elapsed() < PATIENCE, "{} of {records} records in {PATIENCE:?}", hub.ledger.arrived);
        hub.turn(random);
        space.look(&mut device);
        let arrived = hub.ledger.arrived;
        if arrived >= tell_at {
            tell_at += records / 10;
            space.tell(arrived, runs.said.len(), begun);
        }
        if arrived >= hang_up_at {
            hang_up_at += HANG_UP_EVERY;
            hub.hang_up();
        }
        let is_time = match kill {
            Kill::AtStart(wait) => device.started.elapsed() >= wait,
            Kill::OnceArrived(these) => arrived >= these,
            Kill::NoMore => false,
        };
        if is_time {
            runs.said.push(device.kill());
            device = runs.start();
            kill = runs.next_kill(random);
        }
    }
    runs.said.push(device.kill());
    judge(&runs, &hub, &space, begun);
}

fn judge(runs: &Runs, hub: &Hub, space: &Space, begun: Instant) {
    let (mut lost, mut open, mut open_arrived) = (hub.ledger.skipped + hub.missing(), 0, 0);
    for (run, said) in (1..).zip(&runs.said) {
        let through = hub.ledger.through(run);
        lost += u64::from(said.flushed.saturating_sub(through));
        open += u64::from(said.pushing - said.flushed);
        open_arrived += u64::from(through.saturating_sub(said.flushed));
    }
    let (kills, confirmed) = (runs.said.len() - 1, runs.confirmed());
    println!(
        "outbox: {} records, {kills} kills, {lost} lost, {} double, {space}, {:.0} s",
        hub.ledger.arrived,
        hub.ledger.double,
        begun.elapsed().as_secs_f64()
    );
    println!(
        "outbox: {confirmed} were confirmed; of {open} pushed and not confirmed at a kill {open_arrived} arrived; \
         {} batches came again, {} messages were lost",
        hub.repeats, hub.losses
    );
    assert_eq!((lost, hub.ledger.double, hub.ledger.gaps), (0, 0, 0));
    assert_eq!(hub.ledger.arrived, confirmed + open_arrived, "every confirmed record arrived");
    assert!(hub.agrees(), "the hub counts what arrived");
    assert!(confirmed >= runs.records && kills == KILLS);
    assert!(hub.repeats > 0 && hub.losses > 0 && open > 0, "the test was too kind");
    space.assert_within(DISK_KIB_MAX, MEMORY_KIB_MAX);
}
