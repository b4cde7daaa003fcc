//! What a seed draws: how many devices, how bad the network is, what people do and what breaks.

use crate::Mutant;
use crate::chance::Chance;

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fault {
    /// Messages are lost.
    Loss = 0,
    /// Messages arrive twice.
    Repeats = 1,
    /// Messages are slow and overtake each other.
    Delays = 2,
    /// Devices are cut off for a while.
    Partitions = 3,
    /// Devices lose power between two operations of their disk or inside one.
    PowerCuts = 4,
    /// Disks are full for a while.
    FullDisks = 5,
    /// A bit of a slot turns.
    BitRot = 6,
    /// The hub loses what it had not flushed, and is away for a while.
    HubCrashes = 7,
    /// The hub comes back from an old backup.
    Restores = 8,
    /// The broker delivers an older desired state than the latest.
    StaleRetained = 9,
    /// Somebody with every key of the hub says what people did not sign.
    RogueHub = 10,
    /// Models that fail, crash, err or are slow.
    BadModels = 11,
    /// Devices that are slow.
    SlowDevices = 12,
    /// Devices must not be disturbed for a while.
    Conditions = 13,
    /// Clocks of the hub and of devices are set, forward or back.
    Clocks = 14,
    /// A rogue hub with every key of the hub takes its place for a while.
    Usurpers = 15,
}

impl Fault {
    /// Every one.
    pub const ALL: [Self; 16] = [
        Self::Loss,
        Self::Repeats,
        Self::Delays,
        Self::Partitions,
        Self::PowerCuts,
        Self::FullDisks,
        Self::BitRot,
        Self::HubCrashes,
        Self::Restores,
        Self::StaleRetained,
        Self::RogueHub,
        Self::BadModels,
        Self::SlowDevices,
        Self::Conditions,
        Self::Clocks,
        Self::Usurpers,
    ];

    /// Its name in words, as the command line takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Repeats => "repeats",
            Self::Delays => "delays",
            Self::Partitions => "partitions",
            Self::PowerCuts => "power-cuts",
            Self::FullDisks => "full-disks",
            Self::BitRot => "bit-rot",
            Self::HubCrashes => "hub-crashes",
            Self::Restores => "restores",
            Self::StaleRetained => "stale-retained",
            Self::RogueHub => "rogue-hub",
            Self::BadModels => "bad-models",
            Self::SlowDevices => "slow-devices",
            Self::Conditions => "conditions",
            Self::Clocks => "clocks",
            Self::Usurpers => "usurpers",
        }
    }
}

/// A set of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults(u16);

impl Faults {
    /// Nothing breaks.
    pub const NONE: Self = Self(0);

    /// Exactly these.
    #[must_use]
    pub fn of(faults: &[Fault]) -> Self {
        faults.iter().fold(Self::NONE, |set, fault| set.with(*fault))
    }

    /// This one, too.
    #[must_use]
    pub const fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u8)
    }

    /// Not this one.
    #[must_use]
    pub const fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u8))
    }

    /// Whether it breaks.
    #[must_use]
    pub const fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u8 != 0
    }

    /// Those in the set.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |fault| self.has(*fault))
    }
}

/// One run. Draw one with [`Scenario::draw`], or write what you want to see:
///
/// ```
/// use bellwether_world::{Fault, Faults, Scenario, run};
///
/// let scenario = Scenario {
///     devices: 6,
///     faults: Faults::of(&[Fault::PowerCuts, Fault::Loss]),
///     chaos_ms: 60_000,
///     ..Scenario::draw(7)
/// };
/// assert_eq!(run(&scenario).violation, None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// From it all the rest is drawn.
    pub seed: u64,
    /// How many devices.
    pub devices: usize,
    /// What breaks.
    pub faults: Faults,
    /// How long things break, in milliseconds.
    pub chaos_ms: u64,
    /// Mean time between two things that break, in milliseconds.
    pub pause_ms: u64,
    /// Messages lost of a thousand.
    pub loss: u32,
    /// Messages that arrive twice, of a thousand.
    pub repeats: u32,
    /// The slowest message, in milliseconds.
    pub delay_ms: u64,
    /// A bug to plant.
    pub mutant: Option<Mutant>,
    /// Keep the whole timeline.
    pub whole: bool,
}

impl Scenario {
    /// What this seed draws.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let mut faults = Faults::NONE;
        for fault in Fault::ALL {
            // Some seeds break little, so that what is left stands out.
            let odds = if matches!(fault, Fault::Restores | Fault::Usurpers) { 6 } else { 2 };
            if chance.one_in(odds) {
                faults = faults.with(fault);
            }
        }
        let many = chance.one_in(20);
        let drawn = if many { chance.within(40, 120) } else { chance.within(3, 20) };
        // Now and then a fleet of hundreds, which takes as long as a hundred others.
        let devices = if seed % 400 == 399 { 200 + seed / 400 % 100 } else { drawn };
        let pick = |chance: &mut Chance, all: [u64; 4]| all.get(chance.index(4)).copied().unwrap_or_default();
        Self {
            seed,
            devices: usize::try_from(devices).unwrap_or(3),
            faults,
            chaos_ms: chance.within(60_000, 240_000),
            pause_ms: pick(&mut chance, [400, 1_500, 4_000, 12_000]),
            loss: u32::try_from(pick(&mut chance, [5, 30, 100, 300])).unwrap_or(0),
            repeats: u32::try_from(pick(&mut chance, [5, 30, 100, 300])).unwrap_or(0),
            delay_ms: pick(&mut chance, [100, 500, 2_000, 8_000]),
            mutant: None,
            whole: false,
        }
    }
}
