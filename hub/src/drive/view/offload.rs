//! Where a model was scored, as the API shows it.

use bellwether_hub_core::fleet::Device;
use bellwether_hub_core::offload::Offloaded;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::trust::{Accelerator as Has, ScoredBy as By};

use crate::api::types::{Accelerator, OffloadView, ScoredBy};

/// Products that the engine's array makes in a cycle for one column.
const ARRAY_MACS: u128 = 8;

/// Where the version that answers was scored; `None` if the device said nothing of it.
pub(super) fn offload(device: &Device, name: &ModelName) -> Option<OffloadView> {
    let answers = device.running(name)?.number();
    device.offloads.get(name).filter(|sums| sums.version == answers).map(view)
}

fn view(sums: &Offloaded) -> OffloadView {
    let (rows, cycles, macs) = (sums.engine_rows.into(), sums.cycles.into(), sums.macs.into());
    OffloadView {
        accelerator: match sums.accelerator {
            Has::Twin => Accelerator::Twin,
            Has::Simulated => Accelerator::Simulated,
            Has::Ice40Up5k => Accelerator::Ice40Up5k,
        },
        build: sums.build.map(|build| format!("{build:08x}")),
        by: match sums.by {
            By::Waiting => ScoredBy::Waiting,
            By::Engine => ScoredBy::Engine,
            By::Twin => ScoredBy::Twin,
        },
        engine_rows: sums.engine_rows,
        twin_rows: sums.twin_rows,
        cycles_per_row: ratio(cycles, rows),
        macs_per_row: ratio(macs, rows),
        utilisation: ratio(macs * 1000, cycles * ARRAY_MACS).map(|share| u32::try_from(share).unwrap_or(u32::MAX)),
        clock_khz: sums.clock_khz,
        us_per_row: ratio(cycles * 1000, rows * u128::from(sums.clock_khz)),
        recovered: sums.recovered,
        cause: Some(sums.cause.clone()).filter(|cause| !cause.is_empty()),
    }
}

/// The nearest whole number; `None` of nothing. Two factors of 64 and 32 bits fit.
fn ratio(whole: u128, parts: u128) -> Option<u64> {
    let rounded = (whole + parts / 2).checked_div(parts)?;
    Some(u64::try_from(rounded).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellwether_hub_core::Rules;
    use bellwether_protocol::digest::Digest;
    use bellwether_protocol::time::Millis;
    use bellwether_protocol::trust::{ModelReport, Order, Phase, PublicKey, Report, Running};

    use super::*;

    fn sums() -> Offloaded {
        Offloaded {
            version: 2,
            accelerator: Has::Ice40Up5k,
            build: Some(0x0034_abcd),
            by: By::Engine,
            fallen: false,
            engine_rows: 4,
            twin_rows: 1,
            cycles: 4 * 11_405,
            macs: 4 * 84_224,
            clock_khz: 24_000,
            recovered: 1,
            cause: String::new(),
        }
    }

    /// A device on which this version answers.
    fn device(name: &ModelName, version: u32) -> Device {
        let mut rules = Rules::default();
        let id = "cam-1".parse().unwrap();
        for change in rules.enrol(&id, PublicKey([1; 32]), BTreeMap::new(), Millis(1)).unwrap().list() {
            rules.apply(change.clone());
        }
        let active = Some(Running { version: version.try_into().unwrap(), release: Digest::default() });
        let phase = Phase::Committed;
        let model = ModelReport { name: name.clone(), active, target: active, phase, reject: None, progress: 1000 };
        let report = Report {
            device: id.clone(),
            boot: 1,
            sequence: 1,
            seen: Order::default(),
            agent: [0, 1, 0],
            operators: 21,
            hardware: "linux-x86_64".parse().unwrap(),
            memory_kib: 1024,
            models: std::iter::once(model).collect(),
            refused: None,
            audit: Digest::default(),
        };
        Device { report: Some(report), ..rules.device(&id).unwrap().clone() }
    }

    #[test]
    fn a_row_is_told_in_cycles_in_time_and_beside_what_the_array_could() {
        let OffloadView { build, cycles_per_row, macs_per_row, utilisation, us_per_row, cause, .. } = view(&sums());
        assert_eq!((cycles_per_row, macs_per_row, us_per_row), (Some(11_405), Some(84_224), Some(475)));
        assert_eq!((build.as_deref(), utilisation, cause), (Some("0034abcd"), Some(923), None));
    }

    #[test]
    fn nothing_is_told_of_a_row_that_no_engine_scored_or_of_a_clock_that_stands() {
        let none = view(&Offloaded { engine_rows: 0, cycles: 0, macs: 0, ..sums() });
        assert_eq!(
            (none.cycles_per_row, none.macs_per_row, none.utilisation, none.us_per_row),
            (None, None, None, None)
        );
        assert_eq!(view(&Offloaded { clock_khz: 0, ..sums() }).us_per_row, None);
        let most = Offloaded { engine_rows: 1, cycles: u64::MAX, macs: u64::MAX, clock_khz: 1, ..sums() };
        let most = view(&most);
        assert_eq!((most.us_per_row, most.utilisation), (Some(u64::MAX), Some(125)));
        let many = Offloaded { engine_rows: u64::MAX, clock_khz: u32::MAX, ..sums() };
        assert_eq!(view(&many).us_per_row, Some(0));
    }

    #[test]
    fn only_the_version_that_answers_is_told_of() {
        let name: ModelName = "digits".parse().unwrap();
        let mut device = device(&name, 2);
        assert_eq!(offload(&device, &name), None, "its package has no bitstream");
        device.offloads.insert(name.clone(), sums());
        assert_eq!(offload(&device, &name), Some(view(&sums())));
        device.offloads.insert(name.clone(), Offloaded { version: 1, ..sums() });
        assert_eq!(offload(&device, &name), None, "what answered before does not any more");
    }
}
