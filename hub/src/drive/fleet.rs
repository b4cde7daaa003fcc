//! Devices: enrolment, tags, views, and the commands an operator sends.

use bellwether_hub_core::fleet::Device;
use bellwether_hub_core::{Change, Denied};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Enrol, PublicKey, Request, Signed, open_by};

use super::denied::{device_id, statement};
use super::people::{Enrolment, enrolment_key};
pub(super) use super::registry::check_tags;
use super::registry::parse_filter;
use super::{Hub, Refusal, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    DeviceQuery, DeviceView, EnrolBroker, EnrolRequest, EnrolView, ImportRequest, ImportView, ImportedDevice,
    LIMIT_DEFAULT, LIMIT_MAX, Page, ReportView, Role, TagsRequest, TroublesView,
};
use crate::clock;
use crate::store::{Expect, StoreError, Write, record};

/// Devices registered by one request.
const IMPORTED_MAX: usize = 1000;

impl Hub {
    /// Devices by name: a page of those that fit the filter.
    ///
    /// # Errors
    ///
    /// 400 for a filter that does not read.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn devices(&self, _caller: &Caller, query: DeviceQuery) -> Result<Page<DeviceView>, Problem> {
        self.page_of_devices(&query, view::device, |view| &view.id)
    }

    /// What the same devices last reported, as they signed it.
    ///
    /// # Errors
    ///
    /// As [`Hub::devices`].
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn reports(&self, _caller: &Caller, query: DeviceQuery) -> Result<Page<ReportView>, Problem> {
        self.page_of_devices(&query, view::report, |view| &view.device)
    }

    fn page_of_devices<T>(
        &self,
        query: &DeviceQuery,
        view: impl Fn(&Device, Millis) -> T,
        name: impl Fn(&T) -> &String,
    ) -> Result<Page<T>, Problem> {
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX) as usize;
        let tag = query.tag.as_deref().map(parse_filter).transpose()?;
        let text = query.text.as_deref().unwrap_or_default().to_lowercase();
        let now = clock::now();
        let rules = self.rules();
        let fits = |device: &&Device| {
            query.after.as_deref().is_none_or(|after| device.id.as_str() > after)
                && tag.is_none_or(|(tag, value)| device.tags.get(tag).is_some_and(|has| has == value))
                && (text.is_empty() || mentions(device, &text))
                && query.state.as_deref().is_none_or(|state| view::is_in_state(device, state, now))
        };
        let mut items: Vec<T> = rules.devices().filter(fits).take(limit + 1).map(|device| view(device, now)).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| name(last).clone());
        Ok(Page { items, next })
    }

    /// A device.
    ///
    /// # Errors
    ///
    /// 404.
    pub fn device(&self, _caller: &Caller, id: &str) -> Result<DeviceView, Problem> {
        let id = device_id(id)?;
        let rules = self.rules();
        Ok(view::device(rules.device(&id)?, clock::now()))
    }

    /// Decommissions a device: its key opens no session any more.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 404.
    pub fn delete_device(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        caller.need(Role::Admin)?;
        let id = device_id(id)?;
        self.decide_durably(|rules, now| Ok(((), rules.remove_device(&id, &caller.name, now)?)))?;
        self.evict(&id);
        Ok(())
    }

    /// Replaces a device's tags.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 404; 400.
    pub fn set_tags(&self, caller: &Caller, id: &str, request: TagsRequest) -> Result<DeviceView, Problem> {
        caller.need(Role::Operator)?;
        check_tags(&request.tags)?;
        let device = device_id(id)?;
        self.decide_durably(|rules, now| Ok(((), rules.tag(&device, request.tags, &caller.name, now)?)))?;
        self.device(caller, id)
    }

    /// Asks a device for a report now.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 404; 409 while it is not connected.
    pub fn ask_report(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        self.ask(caller, id, Request::Report)
    }

    /// Asks a device for the end of its log; it comes when the device can be reached, and is then
    /// among its troubles.
    ///
    /// # Errors
    ///
    /// 403 unless operator; 404.
    pub fn ask_log(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        self.ask(caller, id, Request::Log)
    }

    /// What a device told of its troubles: failures, and its log if it was asked for.
    ///
    /// # Errors
    ///
    /// 403 unless operator: a log may tell more than a viewer should know; 404.
    pub fn troubles(&self, caller: &Caller, id: &str) -> Result<TroublesView, Problem> {
        caller.need(Role::Operator)?;
        let id = device_id(id)?;
        let rules = self.rules();
        rules.device(&id)?;
        Ok(rules.troubles(&id).map(view::troubles).unwrap_or_default())
    }

    fn ask(&self, caller: &Caller, id: &str, request: Request) -> Result<(), Problem> {
        caller.need(Role::Operator)?;
        let id = device_id(id)?;
        let (topic, payload) = self.command(&id, request)?;
        let link = self.0.link.get().ok_or_else(|| Problem::unavailable("no_broker", "the hub has no broker yet"))?;
        link.try_publish(&topic, payload, bellwether_link::Qos::AtLeastOnce, false)
            .map_err(|error| Problem::unavailable("broker_busy", error.to_string()).hint("try again in a moment"))
    }

    /// Enrols a device: the token is good, and the device holds the key it names.
    ///
    /// # Errors
    ///
    /// 401 for a token that is unknown, used up or expired; 409 if the name is taken; 422.
    pub fn enrol(&self, request: EnrolRequest) -> Result<EnrolView, Problem> {
        self.room()?;
        check_tags(&request.tags)?;
        let device = device_id(&request.device)?;
        let enrol = self.proof(&device, &request)?;
        // Without a secret its key was imported, and it has just proved that it holds it: there is
        // nothing to change, so a statement that is sent again changes nothing either.
        let mut replaced = false;
        if !request.secret.is_empty() {
            let enrolment = self.use_up(&request.secret, &device)?;
            let mut tags = enrolment.tags;
            tags.extend(request.tags);
            replaced = self.decide_durably(|rules, now| {
                let other = rules.device(&device).is_ok_and(|known| known.key != enrol.key);
                let replaces = other && enrolment.replaces && enrolment.device.as_ref() == Some(&device);
                let changes = match replaces {
                    true => rules.replace(&device, enrol.key, tags, now)?,
                    false => rules.enrol(&device, enrol.key, tags, now)?,
                };
                Ok((replaces, changes))
            })?;
        }
        if replaced {
            self.evict(&device);
        }
        let broker = self.broker().ok_or_else(|| Problem::unavailable("no_broker", "the hub has no broker yet"))?;
        Ok(EnrolView {
            broker: EnrolBroker { url: broker.url().to_owned(), password: broker.device_password(&device) },
            device: device.to_string(),
        })
    }

    /// The device's proof that it holds the key; before the token is touched.
    fn proof(&self, device: &DeviceId, request: &EnrolRequest) -> Result<Enrol, Problem> {
        let refused = |reject| Problem::from(Denied::Statement(reject));
        let bytes = statement(&request.statement)?;
        let rules = self.rules();
        let fleet = rules.trusted()?.fleet();
        let signed: Signed<'_> = frame::decode(&bytes).map_err(refused)?;
        let claimed: Enrol = signed.peek().map_err(refused)?;
        let enrol: Enrol = open_by(fleet, &signed, &claimed.key).map_err(refused)?;
        if enrol.device != *device || enrol.token != Digest::of(request.secret.as_bytes()) {
            return Err(Problem::unprocessable("other_enrolment", "the proof was made for another name or token"));
        }
        let known = rules.device(device).ok();
        if request.secret.is_empty() && known.is_none() {
            return Err(Problem::unauthenticated("no key was imported for this device, and it gave no token")
                .hint("import it: bellwether device import FILE, or ask for a token: bellwether device token"));
        }
        // A name that is taken must not use up the token, unless that is what the token is for.
        let may_replace = || self.replaces(&request.secret, device);
        if known.is_some_and(|known| known.key != enrol.key) && !may_replace() {
            return Err(Denied::OtherKey(device.clone()).into());
        }
        Ok(enrol)
    }

    /// Whether a token lets this device take its name from the one that has it.
    fn replaces(&self, secret: &str, device: &DeviceId) -> bool {
        let key = enrolment_key(secret);
        let stored = self.0.store.get(&key).ok().flatten();
        let enrolment = stored.and_then(|stored| record::decode::<Enrolment>(&key, &stored.value).ok());
        enrolment.is_some_and(|enrolment| enrolment.replaces && enrolment.device.as_ref() == Some(device))
    }

    /// Registers devices by keys that were made elsewhere; all or none.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 400 for too many, or one that does not read; 409 for a name that is taken.
    pub fn import_devices(&self, caller: &Caller, request: ImportRequest) -> Result<ImportView, Problem> {
        caller.need(Role::Admin)?;
        self.room()?;
        self.rules().trusted()?;
        let count = request.devices.len();
        if count > IMPORTED_MAX {
            return Err(Problem::bad_request("too_many", format!("{count} devices at once; at most {IMPORTED_MAX}"))
                .hint("send them in several requests"));
        }
        let mut devices = Vec::with_capacity(count);
        for ImportedDevice { device, key, tags } in request.devices {
            check_tags(&tags)?;
            let public: PublicKey = key
                .parse()
                .map_err(|bad| Problem::bad_request("bad_key", format!("the key of {device:.64}: {bad}")))?;
            if !public.is_usable() {
                let why = format!("the key of {device:.64} is no point of the curve, or of small order");
                return Err(Problem::unprocessable("weak_key", why));
            }
            devices.push((device_id(&device)?, public, tags));
        }
        let registered = self.decide_durably(|rules, now| {
            let changes = rules.import(&devices, &caller.name, now)?;
            let made = changes.list().iter().filter(|change| matches!(change, Change::Device(_))).count();
            Ok((made, changes))
        })?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(ImportView { registered: number(registered), known: number(count - registered) })
    }

    /// Takes one use of an enrolment token; of two at once only one gets the last.
    fn use_up(&self, secret: &str, device: &DeviceId) -> Result<Enrolment, Problem> {
        let unknown = || {
            Problem::unauthenticated("the enrolment token is not known here, is used up, or has expired")
                .hint("ask for a new one: bellwether device token")
        };
        let key = enrolment_key(secret);
        loop {
            let stored = self.0.store.get(&key).map_err(Refusal::from)?.ok_or_else(unknown)?;
            let enrolment: Enrolment = record::decode(&key, &stored.value).map_err(Refusal::from)?;
            if clock::now() >= enrolment.ends || enrolment.device.as_ref().is_some_and(|only| only != device) {
                return Err(unknown());
            }
            let left = Enrolment { uses: enrolment.uses.saturating_sub(1), ..enrolment.clone() };
            let value = if left.uses == 0 { None } else { Some(record::encode(&left).map_err(Refusal::from)?) };
            let write = Write { key: key.clone(), expect: Expect::Version(stored.version), value };
            match self.0.store.commit(&[write]) {
                Ok(()) => return Ok(enrolment),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(Refusal::from(error).into()),
            }
        }
    }
}

fn mentions(device: &Device, text: &str) -> bool {
    device.id.as_str().to_lowercase().contains(text)
        || device.tags.iter().any(|(tag, value)| format!("{tag}={value}").to_lowercase().contains(text))
}
