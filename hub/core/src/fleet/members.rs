//! Who belongs to the fleet: devices come, get another key, are tagged and go.

use std::collections::BTreeMap;

use bellwether_protocol::id::DeviceId;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::PublicKey;

use super::{Device, Session};
use crate::error::Denied;
use crate::event::What;
use crate::rules::{Change, Changes, Rules};

impl Rules {
    /// Enrols a device, or confirms one that enrols again with the same key.
    ///
    /// # Errors
    ///
    /// [`Denied::OtherKey`] if the name is taken by another key.
    pub fn enrol(
        &self,
        id: &DeviceId,
        key: PublicKey,
        tags: BTreeMap<String, String>,
        now: Millis,
    ) -> Result<Changes, Denied> {
        let mut changes = self.changes(id.as_str(), now);
        let device = match self.devices.get(id) {
            Some(device) if device.key != key => return Err(Denied::OtherKey(id.clone())),
            Some(device) => Device { tags, ..device.clone() },
            None => Device::new(id.clone(), key, tags, now),
        };
        changes.event(What::DeviceEnrolled { device: id.clone() });
        changes.push(Change::Device(Box::new(device)));
        Ok(changes)
    }

    /// Puts another key in the place of a device's: it was lost, wiped or replaced, and its name and
    /// history go on. What the old one reported says nothing of the new one.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`]; [`Denied::NotNow`] for the key it has already.
    pub fn replace(
        &self,
        id: &DeviceId,
        key: PublicKey,
        tags: BTreeMap<String, String>,
        now: Millis,
    ) -> Result<Changes, Denied> {
        let device = self.device(id)?;
        if device.key == key {
            return Err(Denied::NotNow { action: "replace it", why: "it has this very key already".to_owned() });
        }
        let mut all = device.tags.clone();
        all.extend(tags);
        let (enrolled_at, session) = (now, Session::default());
        let replaced = Device {
            key,
            tags: all,
            enrolled_at,
            counter: 0,
            report: None,
            vouched: None,
            learnt: None,
            session,
            outboxes: BTreeMap::new(),
            offloads: BTreeMap::new(),
            ..device.clone()
        };
        let mut changes = self.changes(id.as_str(), now);
        changes.event(What::DeviceReplaced { device: id.clone(), key: key.id() });
        changes.push(Change::Device(Box::new(replaced)));
        changes.push(Change::TroublesGone(id.clone()));
        Ok(changes)
    }

    /// Registers devices by keys that were made elsewhere: each may then connect without a token.
    ///
    /// # Errors
    ///
    /// [`Denied::OtherKey`] for the first name that is taken; then none is registered.
    pub fn import(
        &self,
        devices: &[(DeviceId, PublicKey, BTreeMap<String, String>)],
        who: &str,
        now: Millis,
    ) -> Result<Changes, Denied> {
        let mut changes = self.changes(who, now);
        let mut made = 0;
        for (id, key, tags) in devices {
            match self.devices.get(id) {
                Some(known) if known.key != *key => return Err(Denied::OtherKey(id.clone())),
                Some(_) => {}
                None => {
                    changes.push(Change::Device(Box::new(Device::new(id.clone(), *key, tags.clone(), now))));
                    made += 1;
                }
            }
        }
        if made > 0 {
            changes.event(What::DevicesImported { devices: made });
        }
        Ok(changes)
    }

    /// Forgets a device; its key opens no session any more.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`].
    pub fn remove_device(&self, id: &DeviceId, who: &str, now: Millis) -> Result<Changes, Denied> {
        self.device(id)?;
        let mut changes = self.changes(who, now);
        changes.event(What::DeviceRemoved { device: id.clone() });
        changes.push(Change::DeviceGone(id.clone()));
        changes.push(Change::TroublesGone(id.clone()));
        Ok(changes)
    }

    /// Replaces a device's tags.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`].
    pub fn tag(
        &self,
        id: &DeviceId,
        tags: BTreeMap<String, String>,
        who: &str,
        now: Millis,
    ) -> Result<Changes, Denied> {
        let device = Device { tags, ..self.device(id)?.clone() };
        let mut changes = self.changes(who, now);
        changes.event(What::DeviceTagged { device: id.clone() });
        changes.push(Change::Device(Box::new(device)));
        Ok(changes)
    }
}
