//! The FPGA of a device in words: who scores a model, and what a row takes of the engine.

use crate::api::types::{Accelerator, ModelOnDevice, ScoredBy};

/// `digits: engine, iCE40 UP5K 1234abcd, …`; none of a model that no FPGA takes.
pub(super) fn line(model: &ModelOnDevice) -> Option<String> {
    let offload = model.offload.as_ref()?;
    let build = offload.build.as_ref().map(|build| format!(" {build}")).unwrap_or_default();
    let mut parts = vec![
        format!("{}: {}", model.name, offload.by.label()),
        format!("{}{build}", offload.accelerator.label()),
        format!("{} rows by the engine", offload.engine_rows),
        format!("{} by the twin", offload.twin_rows),
    ];
    parts.extend(offload.cycles_per_row.map(|cycles| format!("{cycles} cycles a row")));
    parts.extend(offload.us_per_row.map(|time| format!("{time} µs a row at {} kHz", offload.clock_khz)));
    parts.extend(offload.utilisation.map(|share| format!("utilisation {}.{} %", share / 10, share % 10)));
    parts.push(format!("recovered {}", offload.recovered));
    parts.extend(offload.cause.as_ref().map(|cause| format!("last fault: {cause}")));
    Some(parts.join(", "))
}

/// That a model is not scored by the engine that its device has, and why.
pub(super) fn fallen(model: &ModelOnDevice) -> Option<String> {
    let offload = model.offload.as_ref()?;
    if offload.by != ScoredBy::Twin || offload.accelerator == Accelerator::Twin {
        return None;
    }
    let why = offload.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
    Some(format!("{} fell back from the {} to software{why}", model.name, offload.accelerator.label()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::OffloadView;

    fn model(offload: Option<OffloadView>) -> ModelOnDevice {
        ModelOnDevice {
            name: "digits".to_owned(),
            active: None,
            target: None,
            phase: "committed".to_owned(),
            reject: None,
            progress: 1000,
            desired_version: None,
            rows_scored: 2_000,
            errors: 0,
            p50_us: None,
            p95_us: None,
            shadow: None,
            offload,
        }
    }

    fn offload() -> OffloadView {
        OffloadView::example(Accelerator::Ice40Up5k, ScoredBy::Engine)
    }

    #[test]
    fn a_line_says_what_is_known_and_nothing_else() {
        let said = "digits: engine, iCE40 UP5K 1234abcd, 1797 rows by the engine, 203 by the twin, 11405 cycles a row, \
                    475 µs a row at 24000 kHz, utilisation 92.3 %, recovered 1";
        assert_eq!(line(&model(Some(offload()))).unwrap(), said);
        let none = (None, None, None, None);
        let mut twin = OffloadView { accelerator: Accelerator::Twin, by: ScoredBy::Twin, engine_rows: 0, ..offload() };
        (twin.cycles_per_row, twin.us_per_row, twin.utilisation, twin.build) = none;
        let said = "digits: twin, software twin, 0 rows by the engine, 203 by the twin, recovered 1";
        assert_eq!(line(&model(Some(twin))).unwrap(), said);
        assert_eq!(line(&model(None)), None);
    }

    #[test]
    fn an_engine_that_does_not_score_is_found_and_a_device_without_one_is_not() {
        let cause = Some("no engine answers".to_owned());
        let failed = OffloadView { by: ScoredBy::Twin, cause, ..offload() };
        let said = "digits fell back from the iCE40 UP5K to software: no engine answers";
        assert_eq!(fallen(&model(Some(failed.clone()))).unwrap(), said);
        assert_eq!(fallen(&model(Some(OffloadView { by: ScoredBy::Waiting, ..failed.clone() }))), None);
        assert_eq!(fallen(&model(Some(OffloadView { accelerator: Accelerator::Twin, ..failed }))), None);
        assert_eq!(fallen(&model(None)), None);
    }
}
