//! The audit chain for whoever checks it, and what ran on one device on one day.

use bellwether_hub_core::event::{Event, What};
use bellwether_hub_core::fleet::Device;
use bellwether_hub_core::registry::VersionRecord;
use bellwether_hub_core::trust::{GivenSignature, peek_grant};
use bellwether_hub_core::{Rules, rollout};
use bellwether_protocol::id::{ModelName, ModelRef};
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{AuditHead, Phase, seal};

use super::denied::{base64, device_id};
use super::{Hub, Refusal, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    AuditHeadView, AuditQuery, DayQuery, DeviceAuditView, GrantedView, RanView, Role, SignedByView,
};
use crate::clock;
use crate::date::Date;
use crate::store::record::{self, EVENTS, event_key};

/// Events in one answer.
const LINES: usize = 1000;

impl Hub {
    /// How far the chain goes, signed by the registry.
    ///
    /// # Errors
    ///
    /// 403 unless viewer.
    pub fn audit_head(&self, caller: &Caller) -> Result<AuditHeadView, Problem> {
        caller.need(Role::Viewer)?;
        let rules = self.rules();
        let head = AuditHead { sequence: rules.last_event(), head: rules.audit_head(), at: clock::now() };
        let statement = rules.trusted().ok().and_then(|root| {
            let mut body = vec![0; STATEMENT_BYTES_MAX];
            let signed = seal(&head, root.fleet(), self.keys().registry.under(root.root()), &mut body).ok()?;
            Some(base64(&bellwether_hub_core::trust::encode(&signed)))
        });
        Ok(AuditHeadView { sequence: head.sequence, head: head.head.to_string(), statement })
    }

    /// Waits until all that happened is on disk: what was told of the chain is held against the hub
    /// later, and must survive a power cut.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub async fn durable(&self) -> Result<(), Problem> {
        Ok(self.flushed().await.map_err(Refusal::from)?)
    }

    /// The next part of the chain, a line an event, exactly as it is stored; empty at its end.
    ///
    /// # Errors
    ///
    /// 403 unless operator.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn audit_lines(&self, caller: &Caller, query: AuditQuery) -> Result<String, Problem> {
        caller.need(Role::Operator)?;
        let after = query.after.map(event_key);
        let page = self.0.store.scan(EVENTS, after.as_deref(), LINES).map_err(Refusal::from)?;
        let mut lines = String::new();
        for stored in page {
            let text = record::text(&stored.key, &stored.value).map_err(Refusal::from)?;
            lines.push_str(text);
            lines.push('\n');
        }
        Ok(lines)
    }

    /// What ran on a device on a day, who approved it, and why.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 404; 400 for a day that is none.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn device_audit(&self, caller: &Caller, id: &str, query: DayQuery) -> Result<DeviceAuditView, Problem> {
        caller.need(Role::Operator)?;
        let id = device_id(id)?;
        let day: Date = query.date.parse().map_err(|bad: crate::date::BadDate| {
            Problem::bad_request("bad_date", bad.to_string()).hint("days are those of UTC")
        })?;
        let mut past = Vec::new();
        record::each(self.0.store.as_ref(), EVENTS, |key, bytes| {
            let event: Event = record::decode(key, bytes)?;
            if event.what.device() == Some(&id) && Date::of(event.at) <= day {
                past.push(event);
            }
            Ok(())
        })
        .map_err(Refusal::from)?;
        let rules = self.rules();
        let device = rules.device(&id)?;
        let ran = spans(&past).into_iter().filter(|span| span.touches(day));
        let ran = ran.map(|span| span.view(&rules, device)).collect();
        let events = past.iter().filter(|event| Date::of(event.at) == day).map(super::events::view).collect();
        let (key, device) = (device.key.to_string(), id.to_string());
        drop(rules);
        let head = self.audit_head(caller)?;
        Ok(DeviceAuditView { device, key, date: day.to_string(), ran, events, head })
    }
}

/// A version that answered from one instant to another.
struct Span {
    model: ModelRef,
    from: Millis,
    until: Option<(Millis, String)>,
}

impl Span {
    fn touches(&self, day: Date) -> bool {
        Date::of(self.from) <= day && self.until.as_ref().is_none_or(|(until, _)| Date::of(*until) >= day)
    }

    fn view(&self, rules: &Rules, device: &Device) -> RanView {
        let record = rules.version(&self.model).ok();
        let signed = record.and_then(|record| record.releases().find(|release| release.signatures.len() > 1));
        let person = |given: &GivenSignature| SignedByView { person: given.person.clone(), at_ms: given.at.0 };
        let of_it = rules.rollouts().filter(|rollout| rollout.model == self.model);
        RanView {
            model: self.model.name.to_string(),
            version: self.model.version.number(),
            from_ms: self.from.0,
            until_ms: self.until.as_ref().map(|(until, _)| until.0),
            ended: self.until.as_ref().map(|(_, why)| why.clone()),
            release: signed.map(|release| release.digest().to_string()),
            statement: signed.map(|release| base64(&release.statement())),
            publisher: signed.and_then(|release| release.signatures.first()).map(person),
            approvers: signed.iter().flat_map(|release| release.signatures.iter().skip(1)).map(person).collect(),
            grants: record.map(|record| grants(rules, record, device)).unwrap_or_default(),
            rollouts: of_it
                .map(|rollout| format!("rollout {} started by {}", rollout.id, rollout.started_by))
                .collect(),
        }
    }
}

fn grants(rules: &Rules, record: &VersionRecord, device: &Device) -> Vec<GrantedView> {
    let salts = record.releases().filter_map(|release| {
        let salt = release.signed().peek::<bellwether_protocol::trust::Release>().ok()?.salt;
        Some((release.digest(), salt))
    });
    let salts: Vec<_> = salts.collect();
    let fleet = rules.trusted().ok().map(|root| root.fleet());
    let view = |stored: &bellwether_hub_core::trust::GrantRecord| {
        let grant = peek_grant(stored)?;
        let salt = salts.iter().find(|(digest, _)| *digest == grant.release).map(|(_, salt)| salt);
        let reaches = fleet.zip(salt).is_some_and(|(fleet, salt)| grant.cohort.reaches(fleet, salt, device.key_id()));
        Some(GrantedView {
            cohort: rollout::label(&grant.cohort),
            persons: view::signers(rules, &stored.statement),
            at_ms: stored.at.0,
            reaches,
        })
    };
    record.grants.iter().filter_map(view).collect()
}

/// When which version answered, from what the device told: a version answers from its probation on,
/// and the one before it again if it is rolled back.
fn spans(events: &[Event]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for event in events {
        let What::Install { model, phase, reject, .. } = &event.what else { continue };
        let open = |spans: &[Span], name: &ModelName| {
            spans.iter().rposition(|span| span.until.is_none() && span.model.name == *name)
        };
        let current = open(&spans, &model.name);
        let is_current = current.and_then(|at| spans.get(at)).is_some_and(|span| span.model == *model);
        let ended = match phase {
            Phase::Probation | Phase::Committed if !is_current => format!("{model} took its place"),
            Phase::RolledBack if is_current => match reject {
                Some(reject) => format!("rolled back: {reject}"),
                None => "rolled back".to_owned(),
            },
            Phase::Idle
            | Phase::Checking
            | Phase::Deferred
            | Phase::Fetching
            | Phase::Hashed
            | Phase::Staged
            | Phase::SelfTest
            | Phase::Activating
            | Phase::Probation
            | Phase::Committed
            | Phase::Rejected
            | Phase::RollingBack
            | Phase::RolledBack
            | Phase::Held(_)
            | Phase::Shadow => continue,
        };
        if let Some(span) = current.and_then(|at| spans.get_mut(at)) {
            span.until = Some((event.at, ended));
        }
        let next = if *phase == Phase::RolledBack {
            let before = spans.iter().rev().find(|span| span.model.name == model.name && span.model != *model);
            before.map(|span| span.model.clone())
        } else {
            Some(model.clone())
        };
        spans.extend(next.map(|model| Span { model, from: event.at, until: None }));
    }
    spans
}

#[cfg(test)]
mod tests {
    use bellwether_protocol::digest::Digest;
    use bellwether_protocol::error::Reject;

    use super::*;

    fn told(at: u64, model: &str, phase: Phase, reject: Option<Reject>) -> Event {
        let what = What::Install { device: "gw-1".parse().unwrap(), model: model.parse().unwrap(), phase, reject };
        Event { sequence: at, at: Millis(at), who: "gw-1".to_owned(), what, head: Digest::default() }
    }

    #[test]
    fn what_ran_when_follows_from_what_the_device_told() {
        let events = [
            told(1, "digits:1", Phase::Probation, None),
            told(2, "digits:1", Phase::Committed, None),
            told(3, "digits:2", Phase::Fetching, None),
            told(4, "digits:2", Phase::Probation, None),
            told(5, "other:1", Phase::Probation, None),
            told(6, "digits:2", Phase::RolledBack, Some(Reject::LatencyBudget)),
            told(7, "digits:3", Phase::Rejected, Some(Reject::GoldenMismatch)),
        ];
        let spans = spans(&events);
        let told: Vec<(String, u64, Option<u64>)> = spans
            .iter()
            .map(|span| (span.model.to_string(), span.from.0, span.until.as_ref().map(|until| until.0.0)))
            .collect();
        let expected =
            [("digits:1", 1, Some(4)), ("digits:2", 4, Some(6)), ("other:1", 5, None), ("digits:1", 6, None)];
        assert_eq!(told, expected.map(|(model, from, until)| (model.to_owned(), from, until)));
        assert!(spans[1].until.as_ref().unwrap().1.contains("latency budget"));
    }
}
