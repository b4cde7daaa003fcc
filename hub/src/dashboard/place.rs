//! Addresses of pages, and how each is made from the facade's answers.

use axum::extract::Query;
use axum::http::Uri;
use maud::Markup;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    DeviceQuery, EventQuery, GroupQuery, LIMIT_DEFAULT, LIMIT_MAX, ModelQuery, MonitorQuery, Role, RowsQuery,
};
use crate::drive::Hub;

use super::shell::{self, Counts, Frame, Page, Parts};
use super::{
    approval, approvals, device, events, fleet, keys, model, models, monitor, monitors, overview, rollout, rollouts,
};

/// The addresses, as the router takes them.
pub(super) const PATHS: [&str; 14] = [
    "/",
    "/fleet",
    "/devices/{id}",
    "/models",
    "/models/{name}",
    "/models/{name}/{version}",
    "/approvals",
    "/approvals/{name}/{version}",
    "/rollouts",
    "/rollouts/{id}",
    "/monitors",
    "/monitors/{name}/{version}",
    "/events",
    "/keys",
];

/// Events a page shows beside its own matter.
const EVENTS_BESIDE: u32 = 10;
/// Collected rows a device's page shows.
const ROWS_BESIDE: u32 = 12;

/// One page's address, read.
#[derive(Debug)]
pub(super) struct Place {
    kind: Kind,
    note: Option<&'static str>,
}

#[derive(Debug)]
enum Kind {
    Overview,
    Fleet(DeviceQuery),
    Device(String),
    Models(ModelQuery),
    Model(String, Option<u32>),
    Approvals,
    Approval(String, u32),
    Rollouts,
    Rollout(String),
    Monitors(MonitorQuery),
    Monitor(String, u32, OneMonitor),
    Events(EventQuery),
    Keys,
}

/// Which group of devices, and which column.
#[derive(Debug, Default, Deserialize)]
struct OneMonitor {
    site: Option<String>,
    column: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Note {
    #[serde(default)]
    note: Option<String>,
}

impl Place {
    /// Reads path and query, such as `/fleet?state=failed`.
    pub(super) fn parse(address: &str) -> Result<Self, Problem> {
        let nowhere =
            || Problem::not_found("no_such_page", format!("no page is at {address}")).hint("begin at the overview");
        let uri: Uri = address.parse().map_err(|_| nowhere())?;
        let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let kind = match parts.as_slice() {
            [] => Kind::Overview,
            ["fleet"] => Kind::Fleet(fleet_query(asked(&uri)?)),
            ["devices", id] => Kind::Device((*id).to_owned()),
            ["models"] => Kind::Models(models_query(asked(&uri)?)),
            ["models", name] => Kind::Model((*name).to_owned(), None),
            ["models", name, version] => Kind::Model((*name).to_owned(), Some(version.parse().map_err(|_| nowhere())?)),
            ["approvals"] => Kind::Approvals,
            ["approvals", name, version] => Kind::Approval((*name).to_owned(), version.parse().map_err(|_| nowhere())?),
            ["rollouts"] => Kind::Rollouts,
            ["rollouts", id] => Kind::Rollout((*id).to_owned()),
            ["monitors"] => Kind::Monitors(asked::<MonitorForm>(&uri)?.into_query()),
            ["monitors", name, version] => {
                let OneMonitor { site, column } = asked(&uri)?;
                let version = version.parse().map_err(|_| nowhere())?;
                Kind::Monitor((*name).to_owned(), version, OneMonitor { site: some(site), column: some(column) })
            }
            ["events"] => Kind::Events(asked::<EventForm>(&uri)?.into_query()),
            ["keys"] => Kind::Keys,
            _ => return Err(nowhere()),
        };
        let note = asked::<Note>(&uri).ok().and_then(|note| note.note);
        let note = super::act::NOTES.iter().find(|(name, _)| Some(*name) == note.as_deref()).map(|(_, text)| *text);
        Ok(Self { kind, note })
    }

    /// The whole document and its fragments.
    pub(super) fn document(&self, hub: &Hub, caller: &Caller) -> Result<(Markup, Parts), Problem> {
        let glance = hub.overview(caller)?;
        let all_models = hub.models(caller, ModelQuery::default())?.items;
        let counts = Counts {
            needs: glance.needs.len() as u64,
            devices: u64::from(glance.devices.total),
            models: all_models.len() as u64,
            approvals: hub.waiting_for_approval(),
            rollouts: glance.rollouts.len() as u64,
            alerts: glance.alerts.len() as u64,
        };
        let mut page = match &self.kind {
            Kind::Overview => overview::page(&glance, &all_models, &latest(hub, caller, EventQuery::default())?),
            Kind::Fleet(query) => fleet::page(query, &hub.devices(caller, query.clone())?, &glance.sites),
            Kind::Models(query) => models::page(query, &hub.models(caller, query.clone())?.items),
            Kind::Events(query) => events::page(query, &hub.events(caller, query.clone())?),
            Kind::Rollouts => rollouts::page(&hub.rollouts(caller)?.items),
            Kind::Monitors(query) => monitors::page(query, &hub.monitors(caller, query.clone())?.items),
            Kind::Approvals => approvals::page(&hub.approvals(caller)?.items, hub.root_keys(caller).ok().as_ref()),
            Kind::Approval(name, version) => approval::page(&hub.approval(caller, name, *version)?, caller),
            Kind::Keys => {
                let counting = keys::Counting {
                    keys: hub.root_keys(caller).ok(),
                    requests: hub.key_requests(caller)?.items,
                    recalls: hub.recalls(caller)?.items,
                    checkpoint: hub.checkpoint(caller).ok(),
                };
                keys::page(&hub.hub_view(), &counting, caller)
            }
            Kind::Device(id) => one_device(hub, caller, id)?,
            Kind::Model(name, version) => one_model(hub, caller, name, *version)?,
            Kind::Monitor(name, version, about) => one_monitor(hub, caller, name, *version, about)?,
            Kind::Rollout(id) => {
                let fleet = DeviceQuery { limit: Some(LIMIT_MAX), ..DeviceQuery::default() };
                rollout::page(&hub.rollout(caller, id)?, &hub.devices(caller, fleet)?.items, caller)
            }
        };
        let frame = Frame { caller, hub: &hub.hub_view(), counts, note: self.note };
        let document = shell::document(&mut page, &frame);
        Ok((document, page.parts))
    }
}

fn one_device(hub: &Hub, caller: &Caller, id: &str) -> Result<Page, Problem> {
    let about = EventQuery { device: Some(id.to_owned()), ..EventQuery::default() };
    let events = latest(hub, caller, about)?;
    let shown = hub.device(caller, id)?;
    // What devices send of their inputs and logs is not for everybody; the page says so.
    let may = caller.role.may(Role::Operator);
    let rows = RowsQuery { limit: Some(ROWS_BESIDE) };
    let beside = device::Beside {
        events: &events,
        rows: if may { hub.latest_rows(caller, id, &rows).ok() } else { None },
        troubles: if may { hub.troubles(caller, id).ok() } else { None },
    };
    Ok(device::page(&shown, &beside, caller))
}

fn one_monitor(hub: &Hub, caller: &Caller, name: &str, version: u32, about: &OneMonitor) -> Result<Page, Problem> {
    let shown = hub.monitor(caller, name, version, GroupQuery { site: about.site.clone() })?;
    let same = MonitorQuery {
        model: Some(name.to_owned()),
        version: Some(version),
        all: Some(true),
        ..MonitorQuery::default()
    };
    let groups = hub.monitors(caller, same)?.items;
    let mut rollouts = hub.rollouts(caller)?.items;
    rollouts.retain(|rollout| rollout.model == name);
    let column = about.column.as_deref();
    Ok(monitor::page(&monitor::Shown { monitor: &shown, groups: &groups, rollouts: &rollouts, column }))
}

fn one_model(hub: &Hub, caller: &Caller, name: &str, version: Option<u32>) -> Result<Page, Problem> {
    let detail = hub.model(caller, name)?;
    let number = version.unwrap_or(detail.model.latest);
    let shown = hub.version(caller, name, number)?;
    let grants = hub.grants(caller, name, number)?.items;
    Ok(model::page(&detail, &shown, &grants, caller))
}

fn latest(hub: &Hub, caller: &Caller, about: EventQuery) -> Result<Vec<crate::api::types::EventView>, Problem> {
    Ok(hub.events(caller, EventQuery { limit: Some(EVENTS_BESIDE), ..about })?.items)
}

fn asked<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let read = Query::<T>::try_from_uri(uri);
    read.map(|Query(value)| value).map_err(|refused| {
        Problem::bad_request("bad_query", refused.body_text()).hint("clear the filter and try again")
    })
}

/// A form sends what is left empty as an empty text; here that means "any".
fn some(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[derive(Debug, Default, Deserialize)]
struct Form {
    tag: Option<String>,
    state: Option<String>,
    text: Option<String>,
    after: Option<String>,
}

fn fleet_query(form: Form) -> DeviceQuery {
    let Form { tag, state, text, after } = form;
    let limit = Some(LIMIT_DEFAULT);
    DeviceQuery { tag: some(tag), state: some(state), text: some(text), after: some(after), limit }
}

fn models_query(form: Form) -> ModelQuery {
    ModelQuery { tag: some(form.tag) }
}

#[derive(Debug, Default, Deserialize)]
struct MonitorForm {
    model: Option<String>,
    version: Option<u32>,
    site: Option<String>,
    all: Option<bool>,
}

impl MonitorForm {
    fn into_query(self) -> MonitorQuery {
        MonitorQuery { model: some(self.model), version: self.version, site: some(self.site), all: self.all }
    }
}

#[derive(Debug, Default, Deserialize)]
struct EventForm {
    kind: Option<String>,
    device: Option<String>,
    model: Option<String>,
    before: Option<u64>,
}

impl EventForm {
    fn into_query(self) -> EventQuery {
        EventQuery {
            after: None,
            before: self.before,
            limit: Some(LIMIT_DEFAULT),
            kind: some(self.kind),
            device: some(self.device),
            model: some(self.model),
            wait_seconds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        assert!(matches!(Place::parse("/").unwrap().kind, Kind::Overview));
        let Kind::Fleet(query) = Place::parse("/fleet?state=failed&tag=&text=gw").unwrap().kind else { panic!() };
        assert_eq!((query.state.as_deref(), query.tag, query.text.as_deref()), (Some("failed"), None, Some("gw")));
        let about = Place::parse("/monitors/digits/2?site=S%C3%A3o%20Paulo&column=image%5B3%5D").unwrap().kind;
        let Kind::Monitor(name, 2, OneMonitor { site, column }) = about else { panic!() };
        assert_eq!(
            (name.as_str(), site.as_deref(), column.as_deref()),
            ("digits", Some("São Paulo"), Some("image[3]"))
        );
        for bad in [
            "/models/digits/x",
            "/monitors/digits",
            "/monitors/digits/x",
            "/nowhere",
            "/devices/a/b/c",
            "http://elsewhere/x",
            "",
        ] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_note_is_one_of_ours() {
        assert!(Place::parse("/?note=anything").unwrap().note.is_none());
        assert!(Place::parse("/devices/gw-1?note=asked").unwrap().note.is_some());
    }
}
