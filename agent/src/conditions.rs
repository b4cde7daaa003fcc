//! When installs may go on: the windows, power and connection that the device's own configuration asks
//! for, and what its applications say.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bellwether_agent_core::Holds;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::Hold;
use chrono::{DateTime, Datelike as _, Local, Timelike as _};
use serde::Deserialize;

const DAY_MS: u64 = 24 * 3600 * 1000;
const DAY_MINUTES: u32 = 24 * 60;
/// A clock before 2026-01-01 was never set.
const CLOCK_SET: Millis = Millis(20_454 * DAY_MS);
/// Longest an application may hold installs with one word: one that died must not hold them for ever.
pub(crate) const ASKED_SECONDS_MAX: u64 = 24 * 3600;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A time of the week in which installs may go on, by the device's local time: `22:00-05:00`,
/// `sat 00:00-24:00`, `mon-fri 12:00-13:00`. One that passes midnight belongs to the day it begins on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes of the day.
    from: u32,
    until: u32,
}

/// Why a text is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no window: expected HH:MM-HH:MM, with days before it if need be, such as `mon-fri 22:00-05:00`")]
pub struct BadWindow(String);

impl FromStr for Window {
    type Err = BadWindow;
    fn from_str(text: &str) -> Result<Self, BadWindow> {
        Self::read(text).ok_or_else(|| BadWindow(text.chars().take(64).collect()))
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Window {
    fn read(text: &str) -> Option<Self> {
        let (days, times) = text.trim().rsplit_once(' ').unwrap_or(("mon-sun", text.trim()));
        let (from, until) = times.split_once('-')?;
        let (from, until) = (minutes(from)?, minutes(until)?);
        (from < DAY_MINUTES && from != until).then_some(Self { days: read_days(days)?, from, until })
    }

    /// Whether it is open at this minute of this day, Monday being 0.
    fn is_open(self, day: u32, minute: u32) -> bool {
        let on = |day: u32| self.days & 1 << (day % 7) != 0;
        if self.from < self.until {
            return on(day) && self.from <= minute && minute < self.until;
        }
        on(day) && self.from <= minute || on(day + 6) && minute < self.until
    }
}

/// `HH:MM`, to 24:00, as minutes of the day.
fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let is_two = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let two = |text: &str| is_two(text).then(|| text.parse::<u32>().ok()).flatten();
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= DAY_MINUTES).then_some(hours * 60 + minutes)
}

/// `mon-fri`, `sat,sun`, `fri-mon` as bits.
fn read_days(text: &str) -> Option<u8> {
    let one = |text: &str| DAYS.iter().position(|day| *day == text.trim().to_ascii_lowercase());
    let mut days = 0;
    for part in text.split(',') {
        let (from, until) = part.split_once('-').unwrap_or((part, part));
        let (from, until) = (one(from)?, one(until)?);
        let span = (until + 7 - from) % 7;
        days |= (0..=span).fold(0, |days, n| days | 1 << ((from + n) % 7));
    }
    Some(days)
}

/// What applications asked installs to wait for, and until when; every clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<Mutex<BTreeMap<Hold, Millis>>>);

/// A reason that an application can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Something that must not be disturbed is under way.
    Busy,
    /// The connection is paid for by the byte.
    Metered,
    /// The device runs on its battery.
    Power,
}

impl Reason {
    pub(crate) const ALL: [Self; 3] = [Self::Busy, Self::Metered, Self::Power];

    const fn hold(self) -> Hold {
        match self {
            Self::Busy => Hold::Busy,
            Self::Metered => Hold::Metered,
            Self::Power => Hold::Power,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "busy",
            Self::Metered => "metered",
            Self::Power => "power",
        })
    }
}

impl FromStr for Reason {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|reason| reason.to_string() == text).ok_or(())
    }
}

impl Asked {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Hold, Millis>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From `now` installs wait for so long, at most [`ASKED_SECONDS_MAX`]; no more for 0.
    pub(crate) fn ask(&self, reason: Reason, seconds: u64, now: Millis) {
        let until = now.saturating_add(Millis::from_secs(seconds.min(ASKED_SECONDS_MAX)));
        self.with(|asked| asked.insert(reason.hold(), until));
    }

    /// What was asked for and is not over, and for how many seconds still.
    pub(crate) fn left(&self, now: Millis) -> Vec<(Reason, u64)> {
        self.with(|asked| {
            asked.retain(|_, until| *until > now);
            let left = |reason: Reason| Some((reason, asked.get(&reason.hold())?.since(now).0.div_ceil(1000)));
            Reason::ALL.into_iter().filter_map(left).collect()
        })
    }
}

/// What this device's installs wait for.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    windows: Vec<Window>,
    on_mains: bool,
    /// Where the kernel tells of power supplies.
    supplies: PathBuf,
    pub(crate) asked: Asked,
    /// The last day that a hub told, counted from 1970, and when.
    told: Option<(u64, Millis)>,
}

impl Conditions {
    pub(crate) fn new(windows: Vec<Window>, on_mains: bool) -> Self {
        Self { windows, on_mains, supplies: "/sys/class/power_supply".into(), asked: Asked::default(), told: None }
    }

    /// The hub told what day it is.
    pub(crate) const fn told(&mut self, day: u64, now: Millis) {
        self.told = Some((day, now));
    }

    /// What installs wait for. `wall` is the device's clock, `known_day` a day that has surely begun.
    pub(crate) fn holds(&self, now: Millis, wall: Millis, known_day: u64) -> Holds {
        let mut holds = self.asked.left(now).into_iter().fold(Holds::NONE, |all, (reason, _)| all.with(reason.hold()));
        if !self.windows.is_empty() {
            if !self.believes(wall, now, known_day) {
                holds = holds.with(Hold::Clock);
            } else if !self.is_open(local(wall)) {
                holds = holds.with(Hold::Window);
            }
        }
        if self.on_mains && runs_on_battery(&self.supplies) {
            holds = holds.with(Hold::Power);
        }
        holds
    }

    /// Whether the device's clock can be right, to a day, by what the hub said.
    fn believes(&self, wall: Millis, now: Millis, known_day: u64) -> bool {
        let day = wall.0 / DAY_MS;
        match self.told {
            // Whoever has the time key can tell any number.
            Some((told, at)) => told.saturating_add(now.since(at).0 / DAY_MS).abs_diff(day) <= 1,
            None => wall >= CLOCK_SET && day + 1 >= known_day,
        }
    }

    fn is_open(&self, at: Option<(u32, u32)>) -> bool {
        at.is_some_and(|(day, minute)| self.windows.iter().any(|window| window.is_open(day, minute)))
    }
}

/// Day of the week and minute of the day, where the device is.
fn local(wall: Millis) -> Option<(u32, u32)> {
    let at = DateTime::from_timestamp_millis(wall.0.try_into().ok()?)?.with_timezone(&Local);
    Some((at.weekday().num_days_from_monday(), at.hour() * 60 + at.minute()))
}

/// Whether a battery is being emptied and nothing else gives power. A device without batteries does
/// not; what cannot be read says nothing.
fn runs_on_battery(supplies: &Path) -> bool {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let Ok(entries) = fs::read_dir(supplies) else { return false };
    let (mut empties, mut fed) = (false, false);
    for supply in entries.flatten().map(|entry| entry.path()) {
        match read(supply.join("type")).trim() {
            // That of a mouse or a headset is not the device's.
            "Battery" if read(supply.join("scope")).trim() == "Device" => {}
            "Battery" => empties |= read(supply.join("status")).trim() == "Discharging",
            _ => fed |= read(supply.join("online")).trim() == "1",
        }
    }
    empties && !fed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_when_it_says() {
        let hour = |hour: u32| hour * 60;
        let night = window("22:00-05:30");
        for (day, minute, open) in
            [(0, hour(22), true), (6, hour(23), true), (3, hour(5) + 29, true), (3, hour(5) + 30, false), (2, 0, true)]
        {
            assert_eq!(night.is_open(day, minute), open, "{day} {minute}");
        }
        let friday = window("fri 22:00-05:00");
        assert!(friday.is_open(4, hour(23)) && friday.is_open(5, hour(4)), "it goes into Saturday");
        assert!(!friday.is_open(4, hour(4)) && !friday.is_open(5, hour(23)));
        let weekend = window("Sat,Sun 00:00-24:00");
        assert!(weekend.is_open(5, 0) && weekend.is_open(6, hour(24) - 1) && !weekend.is_open(0, 0));
        let over = window("sun-tue 12:00-13:00");
        assert_eq!(
            (0..7).map(|day| over.is_open(day, hour(12))).collect::<Vec<_>>(),
            [true, true, false, false, false, false, true]
        );
        for bad in [
            "",
            "22:00",
            "22:00-22:00",
            "24:00-05:00",
            "22-05",
            "22:60-23:00",
            "xyz 22:00-23:00",
            "1:00-2:00",
            "+1:00-02:00",
        ] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_clock_is_believed_only_if_the_hub_does_not_contradict_it() {
        let mut conditions = Conditions::new(vec![window("00:00-24:00")], false);
        let (day, boot) = (20_783, Millis(5_000));
        let wall = |day: u64| Millis(day * DAY_MS + 3_600_000);
        let of = |conditions: &Conditions, wall, now| conditions.holds(now, wall, day);
        assert_eq!(of(&conditions, Millis(60_000), boot), Holds::NONE.with(Hold::Clock), "never set");
        assert_eq!(of(&conditions, wall(day), boot), Holds::NONE);
        assert_eq!(of(&conditions, wall(day - 2), boot), Holds::NONE.with(Hold::Clock), "that day is over");
        assert_eq!(of(&conditions, wall(day + 900), boot), Holds::NONE, "nobody said otherwise");
        conditions.told(day, boot);
        assert_eq!(of(&conditions, wall(day + 900), boot), Holds::NONE.with(Hold::Clock), "it jumped");
        assert_eq!(of(&conditions, wall(day + 900), Millis(900 * DAY_MS)), Holds::NONE, "so much time passed");
        conditions.told(u64::MAX, boot);
        assert_eq!(of(&conditions, wall(day), Millis(900 * DAY_MS)), Holds::NONE.with(Hold::Clock), "the last day");
        let none = Conditions::new(Vec::new(), false);
        assert_eq!(of(&none, Millis(0), boot), Holds::NONE, "without a window no clock is needed");
    }

    #[test]
    fn what_applications_ask_for_ends_by_itself() {
        let asked = Asked::default();
        asked.ask(Reason::Busy, 60, Millis(1_000));
        asked.ask(Reason::Metered, u64::MAX, Millis(1_000));
        assert_eq!(asked.left(Millis(1_500)), [(Reason::Busy, 60), (Reason::Metered, ASKED_SECONDS_MAX)]);
        assert_eq!(asked.left(Millis(61_000)), [(Reason::Metered, ASKED_SECONDS_MAX - 60)]);
        asked.ask(Reason::Metered, 0, Millis(61_000));
        assert_eq!(asked.left(Millis(61_000)), []);
        assert_eq!("busy".parse(), Ok(Reason::Busy));
        assert!("window".parse::<Reason>().is_err());
    }

    #[test]
    fn power_is_told_as_the_kernel_tells_it() {
        let supplies = tempfile::tempdir().unwrap();
        let set = |name: &str, file: &str, value: &str| {
            fs::create_dir_all(supplies.path().join(name)).unwrap();
            fs::write(supplies.path().join(name).join(file), format!("{value}\n")).unwrap();
        };
        assert!(!runs_on_battery(&supplies.path().join("missing")));
        set("mouse", "type", "Battery");
        set("mouse", "scope", "Device");
        set("mouse", "status", "Discharging");
        assert!(!runs_on_battery(supplies.path()));
        set("BAT0", "type", "Battery");
        set("BAT0", "status", "Discharging");
        assert!(runs_on_battery(supplies.path()));
        set("AC", "type", "Mains");
        set("AC", "online", "1");
        assert!(!runs_on_battery(supplies.path()));
        set("AC", "online", "0");
        assert!(runs_on_battery(supplies.path()));
        set("BAT0", "status", "Charging");
        assert!(!runs_on_battery(supplies.path()));
    }
}
