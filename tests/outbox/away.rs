//! A device that is away for long: its outbox stays full, and drops many times its size.

use std::time::{Duration, Instant};

use bellwether_agent::Config;

use crate::device::{Device, Mode};
use crate::hub::{Hub, Weather};
use crate::ledger::Said;
use crate::mutate::Random;
use crate::space::Space;

/// Times the outbox's bound that are pushed, unless it is said otherwise.
const TIMES: u64 = 8;
/// Bytes of one of the rows that are pushed, with what the outbox counts for it.
const ROW_BYTES: u64 = 350;
const KILLS: u64 = 5;
const CALM: Weather = Weather { lost: 0, repeated: 10, delay_ms: 2 };
const PATIENCE: Duration = Duration::from_secs(200);
/// Disk for each byte that may wait: the records, as many that were removed and not yet written over,
/// and what the store adds to each. A store that kept all would take eight times the bound and more.
const DISK_TIMES_MAX: u64 = 3;
const MEMORY_KIB_MAX: u64 = 96 * 1024;

pub(crate) fn a_full_outbox_stays_small_and_every_number_is_accounted_for(times: Option<u64>, random: &mut Random) {
    let home = tempfile::tempdir().unwrap();
    let (data, socket) = (home.path().join("device"), home.path().join("hub"));
    std::fs::create_dir(&data).unwrap();
    let mut hub = Hub::listen(&socket, CALM);
    let mut space = Space::of(&data);
    let bytes_max = Config::default().outbox().bytes_max;
    let each = times.unwrap_or(TIMES) * bytes_max / ROW_BYTES / (KILLS + 1);
    let begun = Instant::now();
    let mut pushed = 0;
    for run in 1..=u32::try_from(KILLS).unwrap() {
        let mut device = Device::start(&data, &socket, (run, 10 * each), Mode::Away);
        while u64::from(device.said().flushed) < each {
            assert!(begun.elapsed() < PATIENCE, "{:?} in {PATIENCE:?}", device.said());
            space.look(&mut device);
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = device.kill();
        pushed += u64::from(said.flushed);
        space.tell(pushed, run as usize, begun);
    }
    let last = u32::try_from(KILLS + 1).unwrap();
    let mut device = Device::start(&data, &socket, (last, each), Mode::Away);
    let newest = loop {
        assert!(begun.elapsed() < PATIENCE, "{:?} in {PATIENCE:?}", device.said());
        hub.turn(random);
        space.look(&mut device);
        if let Said { empty: Some(newest), .. } = device.said() {
            break newest;
        }
    };
    device.kill();
    let (arrived, missing) = (hub.ledger.arrived, hub.missing());
    println!(
        "outbox: away for {newest} records, {KILLS} kills, {missing} told as missing, {arrived} arrived, {} double, \
         {space}, {:.0} s",
        hub.ledger.double,
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(arrived + missing, newest, "every number is taken or told");
    assert_eq!(hub.ledger.double, 0);
    assert_eq!(hub.ledger.through(last), u32::try_from(each).unwrap(), "the newest arrived");
    assert!(hub.agrees(), "the hub counts what arrived");
    assert!(arrived * ROW_BYTES > bytes_max / 2, "most of a full outbox arrived");
    space.assert_within(DISK_TIMES_MAX * bytes_max / 1024, MEMORY_KIB_MAX);
}
