//! Plans: which stages make sense, which grant covers which stage, and what people call them.

use bellwether_protocol::limit::BUCKETS;
use bellwether_protocol::trust::Cohort;

/// Stages of one rollout: more than anyone watches.
pub const STAGES_MAX: usize = 16;

/// Whether everyone in `stage` is also in `grant`, whoever the devices are.
#[must_use]
pub fn covers(grant: &Cohort, stage: &Cohort) -> bool {
    match (grant, stage) {
        (Cohort::Buckets(grant), Cohort::Buckets(stage)) => grant >= stage,
        (Cohort::Buckets(grant), Cohort::Devices(_)) => *grant >= BUCKETS,
        (Cohort::Devices(grant), Cohort::Devices(stage)) => stage.iter().all(|key| grant.contains(key)),
        (Cohort::Devices(_), Cohort::Buckets(below)) => *below == 0,
    }
}

/// A cohort as people call it: `1 device`, `25 %`, `all`.
#[must_use]
pub fn label(cohort: &Cohort) -> String {
    match cohort {
        Cohort::Buckets(below) if *below >= BUCKETS => "all".to_owned(),
        Cohort::Buckets(below) if below % 10 == 0 => format!("{} %", below / 10),
        Cohort::Buckets(below) => format!("{}.{} %", below / 10, below % 10),
        Cohort::Devices(devices) if devices.len() == 1 => "1 device".to_owned(),
        Cohort::Devices(devices) => format!("{} devices", devices.len()),
    }
}

/// Checks the order of stages: at least one, at most [`STAGES_MAX`], nobody twice for nothing.
pub(super) fn check(stages: &[Cohort]) -> Result<(), String> {
    if stages.is_empty() {
        return Err("a rollout needs at least one stage, such as 100%".to_owned());
    }
    if stages.len() > STAGES_MAX {
        return Err(format!("{} stages are more than {STAGES_MAX}", stages.len()));
    }
    let mut widest = 0;
    for stage in stages {
        match stage {
            Cohort::Devices(devices) if devices.is_empty() => {
                return Err("a stage names no device".to_owned());
            }
            Cohort::Devices(_) => {}
            Cohort::Buckets(below) if *below == 0 || *below > BUCKETS => {
                return Err("a percentage lies above 0 and up to 100".to_owned());
            }
            Cohort::Buckets(below) if *below <= widest => {
                return Err(format!("{} comes after a stage at least as wide", label(stage)));
            }
            Cohort::Buckets(below) => widest = *below,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_protocol::trust::KeyId;

    fn devices(keys: &[u8]) -> Cohort {
        Cohort::Devices(keys.iter().map(|key| KeyId([*key; 16])).collect())
    }

    #[test]
    fn a_grant_covers_a_stage_only_if_everyone_is_in_it() {
        assert!(covers(&Cohort::Buckets(250), &Cohort::Buckets(250)));
        assert!(!covers(&Cohort::Buckets(249), &Cohort::Buckets(250)));
        assert!(covers(&Cohort::Buckets(1000), &devices(&[1, 2])));
        assert!(!covers(&Cohort::Buckets(999), &devices(&[1])));
        assert!(covers(&devices(&[1, 2]), &devices(&[2])));
        assert!(!covers(&devices(&[1]), &devices(&[1, 2])));
        assert!(!covers(&devices(&[1]), &Cohort::Buckets(1)));
    }

    #[test]
    fn plans_that_reach_nobody_new_are_refused() {
        assert!(check(&[devices(&[1]), Cohort::Buckets(250), Cohort::Buckets(1000)]).is_ok());
        for bad in [
            vec![],
            vec![devices(&[])],
            vec![Cohort::Buckets(0)],
            vec![Cohort::Buckets(1001)],
            vec![Cohort::Buckets(500), Cohort::Buckets(250)],
            vec![Cohort::Buckets(10); 17],
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
