//! A device that is away for long: its outbox stays full, and drops many times its size.

use std::time::{Duration, Instant};

use crate::device::{Device, Mode};
use crate::hub::{Hub, Weather};
use crate::ledger::Said;
use crate::mutate::Random;
use crate::space::Space;

/// Room of the outbox in MiB, and how often it is filled, unless it is said otherwise: an agent has 16 MiB,
/// which take four times as long.
const MIB: u64 = 4;
const TIMES: u64 = 16;
/// Bytes of one of the rows that are pushed, with what the outbox counts for it.
const ROW_BYTES: u64 = 350;
const KILLS: u64 = 5;
const CALM: Weather = Weather { lost: 0, repeated: 10, delay_ms: 2 };
const PATIENCE: Duration = Duration::from_secs(200);
/// Disk for each byte that may wait: the records, what the store adds to each, and what was removed from
/// segments that are not yet empty enough to be used again. A store that kept all would take 16 times.
const DISK_TIMES_MAX: u64 = 3;
/// And beside that, however little waits: the store's segments under way, its snapshot and its pages.
const DISK_KIB: u64 = 16 * 1024;
const MEMORY_KIB_MAX: u64 = 96 * 1024;

pub(crate) fn a_full_outbox_stays_small_and_every_number_is_accounted_for(
    (mib, times): (Option<u64>, Option<u64>),
    random: &mut Random,
) {
    let home = tempfile::tempdir().unwrap();
    let (data, socket) = (home.path().join("device"), home.path().join("hub"));
    std::fs::create_dir(&data).unwrap();
    let mut hub = Hub::listen(&socket, CALM);
    let mut space = Space::of(&data);
    let bytes_max = mib.unwrap_or(MIB) * 1024 * 1024;
    let mode = Mode::Away { bytes_max };
    let each = times.unwrap_or(TIMES) * bytes_max / ROW_BYTES / (KILLS + 1);
    let begun = Instant::now();
    let mut pushed = 0;
    for run in 1..=u32::try_from(KILLS).unwrap() {
        let mut device = Device::start(&data, &socket, (run, 10 * each), mode);
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
    let mut device = Device::start(&data, &socket, (last, each), mode);
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
    space.assert_within(DISK_KIB + DISK_TIMES_MAX * bytes_max / 1024, MEMORY_KIB_MAX);
}
