//! What devices say, by their own signatures. The hub only carries it; it could withhold a report or
//! keep an old one, but it can neither make nor change one.

use bellwether_hub_core::fleet::Standing;
use bellwether_protocol::trust::{FleetId, Mode, Order, PublicKey, Release, Report, open_by};

use crate::api::types::{DeviceQuery, LIMIT_MAX, Presence, ReportView};
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::release::Held;

/// A device and what it last said.
#[derive(Debug)]
pub(in crate::cli) struct Said {
    /// The device.
    pub(in crate::cli) device: String,
    /// Its key, by the hub's word.
    pub(in crate::cli) key: PublicKey,
    /// Whether it is connected, by the hub's word.
    pub(in crate::cli) presence: Presence,
    /// Its latest report, if its signature holds.
    pub(in crate::cli) report: Option<Report>,
    /// Whether there is one whose signature does not hold, or that is another device's.
    pub(in crate::cli) forged: bool,
}

impl Said {
    fn of(view: &ReportView, fleet: FleetId) -> Result<Self, Failure> {
        let key: PublicKey =
            view.public.parse().map_err(|bad| Failure::error(format!("the hub's key of {}: {bad}", view.device)))?;
        let report = view.statement.as_deref().and_then(|text| checked(text, fleet, &key, &view.device));
        Ok(Self {
            device: view.device.clone(),
            key,
            presence: view.presence,
            forged: view.statement.is_some() && report.is_none(),
            report,
        })
    }

    /// How it stands towards a release: it counts whether it answers or scores in the shadow, as a grant
    /// speaks of both.
    pub(in crate::cli) fn standing(
        &self,
        release: &Release,
        digest: bellwether_protocol::digest::Digest,
    ) -> Option<Standing> {
        let report = self.report.as_ref()?;
        let of = |mode| Standing::of(report, Some(Order::default()), &release.name, (digest, mode));
        let shadow = of(Mode::Shadow);
        Some(if shadow == Standing::Healthy { shadow } else { of(Mode::Active) })
    }
}

fn checked(text: &str, fleet: FleetId, key: &PublicKey, device: &str) -> Option<Report> {
    let held = Held::read(text).ok()?;
    let report: Report = open_by(fleet, &held.signed().ok()?, key).ok()?;
    (report.device.as_str() == device).then_some(report)
}

/// Hands over every device of the hub with what it last said, by name.
pub(in crate::cli) async fn each(context: &Context, fleet: FleetId, mut take: impl FnMut(Said)) -> Result<(), Failure> {
    let mut query = DeviceQuery { limit: Some(LIMIT_MAX), ..DeviceQuery::default() };
    loop {
        let page = context.client.reports(&query).await?;
        for view in &page.items {
            take(Said::of(view, fleet)?);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bellwether_protocol::SigningKey;
    use bellwether_protocol::digest::Digest;
    use bellwether_protocol::trust::{ModelReport, Phase, Running, seal};

    pub(in crate::cli::evidence) const FLEET: FleetId = FleetId([5; 16]);

    /// What the hub hands over of a device with this key that committed the release.
    pub(in crate::cli::evidence) fn committed(device: &str, seed: u8, release: &Release, digest: Digest) -> ReportView {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let running = Some(Running { version: release.version, release: digest });
        let model = ModelReport {
            name: release.name.clone(),
            active: running,
            target: running,
            phase: Phase::Committed,
            reject: None,
            progress: 1000,
        };
        let report = Report {
            device: device.parse().unwrap(),
            boot: 1,
            sequence: 1,
            seen: Order::default(),
            agent: [0, 2, 0],
            operators: 21,
            hardware: "linux-x86_64".parse().unwrap(),
            memory_kib: 1024,
            models: std::iter::once(model).collect(),
            refused: None,
            audit: Digest::default(),
        };
        let mut body = [0; 4096];
        let signed = seal(&report, FLEET, &key, &mut body).unwrap();
        ReportView {
            device: device.to_owned(),
            public: PublicKey(key.verifying_key().to_bytes()).to_string(),
            presence: Presence::Online,
            statement: Some(Held::of(&signed).unwrap().text()),
        }
    }

    #[test]
    fn a_report_counts_by_its_signature_and_for_its_own_device() {
        let release = crate::cli::evidence::tests::made().1;
        let digest = Digest::of(b"release");
        let view = committed("gw-1", 20, &release, digest);
        let said = Said::of(&view, FLEET).unwrap();
        assert_eq!(said.standing(&release, digest), Some(Standing::Healthy));
        assert_eq!(said.standing(&release, Digest::of(b"another")), Some(Standing::Updating));
        let other = committed("gw-2", 21, &release, digest);
        for forged in [
            ReportView { statement: other.statement.clone(), ..view.clone() },
            ReportView { public: other.public.clone(), ..view.clone() },
            ReportView { device: "gw-3".to_owned(), ..view.clone() },
            ReportView { statement: Some("AAAA".to_owned()), ..view.clone() },
        ] {
            let said = Said::of(&forged, FLEET).unwrap();
            assert_eq!((said.forged, said.standing(&release, digest)), (true, None));
        }
        assert!(Said::of(&view, FleetId([6; 16])).unwrap().forged, "another fleet's");
        let silent = Said::of(&ReportView { statement: None, ..view }, FLEET).unwrap();
        assert_eq!((silent.forged, silent.report), (false, None));
    }
}
