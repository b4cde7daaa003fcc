//! Where a device says that rows were scored: added up, told when it changes, and never believed beyond sense.

use bellwether_hub_core::event::What;
use bellwether_hub_core::fleet::{Device, EVENTS_MAX, SCORED_MODELS_MAX};
use bellwether_hub_core::offload::{MACS_PER_CYCLE_MAX, Offloaded};
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::limit::CAUSE_BYTES_MAX;
use bellwether_protocol::trust::{Accelerator, Batch, Offload, OutboxId, Record, RecordBody, ScoredBy};

use crate::world::{World, device_key};

/// A device, and the number of its next record.
struct Desk {
    world: World,
    device: DeviceId,
    next: u64,
}

impl Desk {
    fn new() -> Self {
        let mut world = World::new();
        let device = world.enrol(0);
        Self { world, device, next: 1 }
    }

    fn tell(&mut self, offload: Offload<'_>) {
        let record = Record { at: self.world.now, body: RecordBody::Offload(offload) };
        let records = std::iter::once(record).collect();
        let (device, outbox) = (self.device.clone(), OutboxId([1; 16]));
        let batch = Batch { device, outbox, oldest: self.next, first: self.next, records };
        self.next += 1;
        // Twice, as when an acknowledgement was lost.
        for _ in 0..2 {
            let taken = self.world.rules.batch(&batch, self.world.now).map(|(changes, _)| changes);
            self.world.take(taken);
        }
    }

    fn says(&mut self, by: ScoredBy, cause: &str) {
        self.tell(Offload { by, cause, ..digits() });
    }

    fn known(&self) -> &Device {
        self.world.rules.device(&self.device).unwrap()
    }

    fn sums(&self) -> &Offloaded {
        self.known().offloads.get(&digits().name).unwrap()
    }

    /// What was told of offloading, each as its sentence.
    fn told(&self) -> Vec<String> {
        let events = self.world.events().filter(|what| what.kind().starts_with("offload_"));
        events.map(ToString::to_string).collect()
    }
}

/// Ten rows by the engine and one by its twin.
fn digits() -> Offload<'static> {
    Offload {
        name: "digits".parse().unwrap(),
        version: "2".parse().unwrap(),
        accelerator: Accelerator::Ice40Up5k,
        build: Some(0x1234_abcd),
        by: ScoredBy::Engine,
        engine_rows: 10,
        twin_rows: 1,
        cycles: 114_050,
        macs: 842_240,
        clock_khz: 24_000,
        recovered: 0,
        cause: "",
    }
}

/// Nothing but who scores, of a device that has no engine.
fn twin() -> Offload<'static> {
    let (accelerator, by) = (Accelerator::Twin, ScoredBy::Twin);
    Offload { accelerator, build: None, by, engine_rows: 0, twin_rows: 5, cycles: 0, macs: 0, ..digits() }
}

#[test]
fn rows_add_up_once_and_the_latest_word_counts_for_the_rest() {
    let mut desk = Desk::new();
    desk.tell(Offload { build: None, by: ScoredBy::Waiting, ..digits() });
    assert_eq!((desk.sums().build, desk.sums().by), (None, ScoredBy::Waiting));
    desk.tell(Offload { clock_khz: 12_000, recovered: 2, cause: "no answer", ..digits() });
    desk.tell(Offload { recovered: 1, ..digits() });
    let sums = Offloaded {
        version: 2,
        accelerator: Accelerator::Ice40Up5k,
        build: Some(0x1234_abcd),
        by: ScoredBy::Engine,
        fallen: false,
        engine_rows: 30,
        twin_rows: 3,
        cycles: 342_150,
        macs: 2_526_720,
        clock_khz: 24_000,
        recovered: 3,
        cause: "no answer".to_owned(),
    };
    assert_eq!(*desk.sums(), sums, "the latest fault stays beside the faults that are counted");
    assert!(desk.told().is_empty(), "a fault after which the engine scored again is no news");
}

#[test]
fn another_version_begins_anew_and_so_does_another_accelerator() {
    let mut desk = Desk::new();
    desk.tell(Offload { recovered: 1, cause: "no answer", ..digits() });
    desk.tell(Offload { version: "3".parse().unwrap(), ..digits() });
    let sums = desk.sums();
    assert_eq!((sums.version, sums.engine_rows, sums.twin_rows, sums.recovered), (3, 10, 1, 0));
    assert!(sums.cause.is_empty());
    desk.tell(Offload { version: "3".parse().unwrap(), accelerator: Accelerator::Simulated, ..digits() });
    assert_eq!((desk.sums().accelerator, desk.sums().engine_rows), (Accelerator::Simulated, 10));
    assert!(desk.told().is_empty());
}

#[test]
fn a_fall_is_told_once_with_its_cause_and_so_is_the_return() {
    let mut desk = Desk::new();
    desk.says(ScoredBy::Engine, "");
    desk.says(ScoredBy::Twin, "the known answer is wrong");
    desk.says(ScoredBy::Twin, "the known answer is wrong");
    desk.says(ScoredBy::Waiting, "the known answer is wrong");
    assert_eq!(desk.told(), ["digits:2 on cam-000 fell back from the engine to software: the known answer is wrong"]);
    desk.says(ScoredBy::Engine, "");
    desk.says(ScoredBy::Engine, "");
    assert_eq!(desk.told()[1..], ["digits:2 on cam-000 is scored by the engine again"]);
    desk.says(ScoredBy::Twin, "");
    assert_eq!(desk.told()[2..], ["digits:2 on cam-000 fell back from the engine to software: it did not say why"]);
    let events: Vec<&What> = desk.world.events().filter(|what| what.kind().starts_with("offload_")).collect();
    for what in events {
        assert_eq!(what.device(), Some(&desk.device));
        assert_eq!(what.model().map(ToString::to_string).as_deref(), Some("digits:2"));
        let stored = serde_json::to_string(what).unwrap();
        assert_eq!(serde_json::from_str::<What>(&stored).unwrap(), *what);
    }
}

#[test]
fn a_first_word_is_news_only_if_it_names_a_fault() {
    let mut desk = Desk::new();
    desk.tell(twin());
    desk.tell(twin());
    assert!(desk.told().is_empty(), "where there is no engine, nothing fell");
    let mut desk = Desk::new();
    desk.says(ScoredBy::Waiting, "");
    desk.says(ScoredBy::Twin, "no engine answers");
    assert_eq!(desk.told().len(), 1);
    let mut desk = Desk::new();
    desk.says(ScoredBy::Twin, "no engine answers");
    desk.tell(Offload { version: "3".parse().unwrap(), by: ScoredBy::Twin, cause: "no engine answers", ..digits() });
    assert_eq!(desk.told().len(), 1, "the next version finds it as it was");
    desk.tell(Offload { version: "3".parse().unwrap(), ..digits() });
    assert_eq!(desk.told()[1..], ["digits:3 on cam-000 is scored by the engine again"]);
}

#[test]
fn a_device_that_never_rests_is_not_told_of_without_end() {
    let mut desk = Desk::new();
    for _ in 0..EVENTS_MAX {
        desk.says(ScoredBy::Engine, "");
        desk.says(ScoredBy::Twin, "again");
    }
    let told = u32::try_from(desk.told().len()).unwrap();
    assert!((EVENTS_MAX - 2..=EVENTS_MAX).contains(&told), "{told}");
    assert_eq!(desk.sums().engine_rows, 20 * u64::from(EVENTS_MAX), "what it scored counts all the same");
}

#[test]
fn numbers_without_sense_do_no_harm() {
    let mut desk = Desk::new();
    desk.tell(Offload { engine_rows: 0, cycles: u64::MAX, macs: u64::MAX, ..digits() });
    assert_eq!((desk.sums().cycles, desk.sums().macs), (0, 0), "no rows, no work");
    desk.tell(Offload { engine_rows: 1, cycles: 10, macs: u64::MAX, ..digits() });
    assert_eq!((desk.sums().cycles, desk.sums().macs), (10, 10 * MACS_PER_CYCLE_MAX));
    let most = Offload {
        engine_rows: u32::MAX,
        twin_rows: u32::MAX,
        cycles: u64::MAX,
        macs: u64::MAX,
        clock_khz: 0,
        recovered: u16::MAX,
        ..digits()
    };
    desk.tell(most.clone());
    desk.tell(most);
    let sums = desk.sums();
    assert_eq!((sums.cycles, sums.macs, sums.clock_khz), (u64::MAX, u64::MAX, 0));
    assert_eq!((sums.engine_rows, sums.recovered), (2 * u64::from(u32::MAX) + 1, 2 * u64::from(u16::MAX)));
}

#[test]
fn a_cause_is_cut_and_moves_no_cursor() {
    let mut desk = Desk::new();
    let long = "é".repeat(CAUSE_BYTES_MAX);
    desk.says(ScoredBy::Twin, &format!("\u{1b}[2J\r\n\u{9b}A{long}"));
    let cause = &desk.sums().cause;
    assert!(cause.starts_with("\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}Aé"), "{cause}");
    assert!(cause.len() <= CAUSE_BYTES_MAX && cause.len() > CAUSE_BYTES_MAX - 2);
    let told = desk.told();
    assert!(told[0].ends_with(cause) && !told[0].contains(char::is_control));
}

#[test]
fn made_up_models_do_not_fill_the_hub_and_known_ones_still_count() {
    let mut desk = Desk::new();
    desk.tell(digits());
    for n in 0..3 * SCORED_MODELS_MAX {
        desk.tell(Offload { name: format!("model-{n}").parse().unwrap(), ..digits() });
    }
    desk.tell(digits());
    assert_eq!(desk.known().offloads.len(), SCORED_MODELS_MAX);
    assert_eq!(desk.sums().engine_rows, 20);
}

#[test]
fn a_device_that_was_stored_before_reads_and_one_that_is_stored_now_comes_back() {
    let mut desk = Desk::new();
    desk.says(ScoredBy::Twin, "no engine answers");
    let stored = serde_json::to_value(desk.known()).unwrap();
    assert_eq!(serde_json::from_value::<Device>(stored.clone()).unwrap(), *desk.known());
    let mut older = stored;
    older.as_object_mut().unwrap().remove("offloads").unwrap();
    let older: Device = serde_json::from_value(older).unwrap();
    assert!(older.offloads.is_empty());
    assert_eq!(older.id, desk.device);
}

#[test]
fn what_the_old_hardware_scored_says_nothing_of_the_new() {
    let mut desk = Desk::new();
    desk.tell(digits());
    let replaced = desk.world.rules.replace(&desk.device, device_key(7), [].into(), desk.world.now);
    desk.world.take(replaced);
    assert!(desk.known().offloads.is_empty());
}
