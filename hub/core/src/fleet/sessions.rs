//! What devices say of themselves: that they are there, that they are gone, what they have.

use bellwether_protocol::id::DeviceId;
use bellwether_protocol::message::{Gone, Hello};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Report, SignatureBytes};

use super::{Device, Session, may_tell};
use crate::error::Denied;
use crate::event::What;
use crate::rules::{Change, Changes, Rules};

impl Rules {
    /// Takes the counter that a device opens a session with.
    ///
    /// # Errors
    ///
    /// [`Denied::NotNow`] if it does not go up: a replayed password, a clone, or a wiped device.
    pub fn connect(&self, id: &DeviceId, counter: u64, now: Millis) -> Result<Changes, Denied> {
        let device = self.device(id)?;
        if counter <= device.counter {
            let why = format!("its counter {counter} is not above {}", device.counter);
            return Err(Denied::NotNow { action: "open a session", why });
        }
        let mut changes = self.changes(id.as_str(), now);
        changes.push(Change::Device(Box::new(Device { counter, ..device.clone() })));
        Ok(changes)
    }

    /// A device was born.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`].
    pub fn hello(&self, id: &DeviceId, hello: Hello, now: Millis) -> Result<Changes, Denied> {
        let mut device = self.device(id)?.clone();
        let mut changes = self.changes(id.as_str(), now);
        if !device.session.open && may_tell(&mut device, now) {
            changes.event(What::DeviceOnline { device: id.clone() });
        }
        device.session = Session { open: true, boot: hello.boot, number: hello.session, last_seen: Some(now) };
        changes.push(Change::Device(Box::new(device)));
        Ok(changes)
    }

    /// A device's last will; ignored unless it belongs to the session that is open.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`].
    pub fn gone(&self, id: &DeviceId, gone: Gone, now: Millis) -> Result<Changes, Denied> {
        let mut device = self.device(id)?.clone();
        let mut changes = self.changes(id.as_str(), now);
        let Session { open, boot, number, .. } = device.session;
        if open && (boot, number) == (gone.boot, gone.session) {
            if may_tell(&mut device, now) {
                changes.event(What::DeviceOffline { device: id.clone() });
            }
            device.session.open = false;
            changes.push(Change::Device(Box::new(device)));
        }
        Ok(changes)
    }

    /// Takes a device's report and its signature, already verified against its key.
    ///
    /// # Errors
    ///
    /// [`Denied::OldReport`] unless its sequence is above the latest.
    pub fn report(&self, report: Report, signature: SignatureBytes, now: Millis) -> Result<Changes, Denied> {
        let device = self.device(&report.device)?;
        if let Some(latest) = &device.report
            && report.sequence <= latest.sequence
        {
            return Err(Denied::OldReport { latest: latest.sequence });
        }
        let mut changes = self.changes(report.device.as_str(), now);
        if let Some(reject) = report.refused
            && device.report.as_ref().and_then(|before| before.refused) != Some(reject)
        {
            changes.event(What::DeviceRefused { device: report.device.clone(), reject });
        }
        if !device.session.open {
            changes.event(What::DeviceOnline { device: report.device.clone() });
        }
        let session = Session { open: true, last_seen: Some(now), ..device.session };
        let retold = if device.is_behind(&report, now) { now } else { device.retold };
        let (report, vouched) = (Some(report), Some(signature));
        changes.push(Change::Device(Box::new(Device { report, vouched, retold, session, ..device.clone() })));
        Ok(changes)
    }
}
