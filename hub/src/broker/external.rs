//! A broker of its own, such as mosquitto or EMQX: the hub is one client of it, with rights that
//! the broker's own configuration gives (`docs/brokers.md`).

use std::future::Future;
use std::pin::Pin;

use bellwether_link::tls::Trust;
use bellwether_protocol::digest::Hasher;
use bellwether_protocol::id::DeviceId;

use super::{Access, Broker, BrokerError};

/// A broker elsewhere.
#[derive(Debug)]
pub struct External {
    access: Access,
    secret: [u8; 32],
}

impl External {
    /// Reads `mqtt://USER:PASSWORD@HOST:PORT`, or the same with `mqtts`.
    ///
    /// # Errors
    ///
    /// [`BrokerError::BadAddress`].
    pub fn new(address: &str, secret: [u8; 32], trust: Trust) -> Result<Self, BrokerError> {
        let bad = || BrokerError::BadAddress(without_password(address));
        let (scheme, rest) = address.split_once("://").ok_or_else(bad)?;
        if !matches!(scheme, "mqtt" | "mqtts") {
            return Err(bad());
        }
        let (login, place) = rest.rsplit_once('@').ok_or_else(bad)?;
        let (username, password) = login.split_once(':').ok_or_else(bad)?;
        let port = place.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if username.is_empty() || port.is_none() {
            return Err(bad());
        }
        let access = Access {
            url: format!("{scheme}://{place}"),
            username: username.to_owned(),
            password: password.to_owned(),
            trust,
        };
        Ok(Self { access, secret })
    }
}

/// The password of a device at a broker that cannot check its signature: derived, so that nothing
/// needs storing, and given only at enrolment.
#[must_use]
pub fn device_password(secret: &[u8; 32], device: &DeviceId) -> String {
    let mut hasher = Hasher::default();
    for part in [b"bw-broker-password".as_slice(), secret, device.as_str().as_bytes()] {
        hasher.update(part);
    }
    hasher.finish().to_string()
}

fn without_password(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => address.to_owned(),
    }
}

impl Broker for External {
    fn kind(&self) -> &'static str {
        "external"
    }

    fn url(&self) -> &str {
        &self.access.url
    }

    fn hub_access(&self) -> Access {
        self.access.clone()
    }

    fn device_access(&self, device: &DeviceId) -> Access {
        let password = device_password(&self.secret, device);
        Access { username: device.to_string(), password, ..self.access.clone() }
    }

    fn device_password(&self, device: &DeviceId) -> Option<String> {
        Some(device_password(&self.secret, device))
    }

    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_everything_and_errors_never_show_the_password() {
        let good = External::new("mqtt://hub:s3:cret@127.0.0.1:1883", [1; 32], Trust::default()).unwrap();
        assert_eq!(good.url(), "mqtt://127.0.0.1:1883");
        assert_eq!(good.hub_access().password, "s3:cret");
        let secure = External::new("mqtts://hub:x@broker.example:8883", [1; 32], Trust::default()).unwrap();
        assert_eq!(secure.url(), "mqtts://broker.example:8883");
        for bad in
            ["127.0.0.1:1883", "mqtt://127.0.0.1:1883", "mqtt://u:secret@host", "http://u:secret@h:1", "mqtt://:p@h:1"]
        {
            let error = External::new(bad, [1; 32], Trust::default()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn passwords_differ_by_device_and_by_hub() {
        let (a, b) = (DeviceId::parse("a").unwrap(), DeviceId::parse("b").unwrap());
        assert_ne!(device_password(&[1; 32], &a), device_password(&[1; 32], &b));
        assert_ne!(device_password(&[1; 32], &a), device_password(&[2; 32], &a));
    }
}
