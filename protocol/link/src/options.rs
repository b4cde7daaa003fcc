//! Where to connect, as whom, and what for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::tls::Trust;

/// Where the broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an address; an IPv6 address in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it speaks TLS there.
    pub tls: bool,
}

/// A text that is no address of a broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is no broker address: {rule}")]
pub struct BadAddress {
    /// The text.
    pub got: String,
    /// What is wrong with it.
    pub rule: &'static str,
}

impl FromStr for Address {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        const PORT: u16 = 1883;
        const PORT_TLS: u16 = 8883;
        let bad = |rule| BadAddress { got: text.to_owned(), rule };
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl", rest)) => (true, rest),
            Some(_) => return Err(bad("it must begin with mqtt:// or mqtts://")),
            None => (false, text),
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains(['/', '@', '?']) {
            return Err(bad("expected mqtt://HOST:PORT or mqtts://HOST:PORT and nothing else"));
        }
        let after_bracket = rest.rfind(']').map_or(0, |at| at);
        let (host, port) = match rest.rfind(':').filter(|colon| *colon >= after_bracket) {
            Some(colon) => {
                let (host, port) = rest.split_at(colon);
                let port = port.trim_start_matches(':').parse().map_err(|_| bad("the port must be 1 to 65535"))?;
                (host, port)
            }
            None => (rest, if tls { PORT_TLS } else { PORT }),
        };
        if host.is_empty() || port == 0 {
            return Err(bad("expected mqtt://HOST:PORT or mqtts://HOST:PORT"));
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt{}://{}:{}", if self.tls { "s" } else { "" }, self.host, self.port)
    }
}

/// A message that the broker publishes when the connection breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Its topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// What a client says when it connects; made anew for every connection.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Last will.
    pub will: Option<Will>,
}

impl fmt::Debug for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map(|(user, _)| user);
        f.debug_struct("Greeting").field("user", &user).field("will", &self.will).finish()
    }
}

/// Everything a link needs.
pub struct Options {
    /// The broker.
    pub address: Address,
    /// Whom to trust, and as whom to appear, where the broker speaks TLS. Its files are read anew for
    /// every connection, so that renewed ones need no restart.
    pub trust: Trust,
    /// The MQTT client id.
    pub client_id: String,
    /// Filters to subscribe to at every connection, QoS 1.
    pub subscriptions: Vec<String>,
    /// Longest silence; at least five seconds.
    pub keep_alive: Duration,
    /// Called before every connection; an error is told as [`crate::Arrival::Down`] and tried again.
    pub greet: Box<dyn FnMut() -> Result<Greeting, String> + Send>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &self.address)
            .field("client_id", &self.client_id)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses_are_read_or_explained() {
        let read = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(read("mqtt://hub.local:18830").unwrap(), "mqtt://hub.local:18830");
        assert_eq!(read("mqtt://hub.local/").unwrap(), "mqtt://hub.local:1883");
        assert_eq!(read("127.0.0.1:1884").unwrap(), "mqtt://127.0.0.1:1884");
        assert_eq!(read("mqtt://[::1]:7").unwrap(), "mqtt://[::1]:7");
        assert_eq!(read("mqtt://[::1]").unwrap(), "mqtt://[::1]:1883");
        assert_eq!(read("mqtts://hub.local").unwrap(), "mqtts://hub.local:8883");
        assert_eq!(read("mqtts://[::1]:7").unwrap(), "mqtts://[::1]:7");
        for bad in ["mqtts://", "http://x", "mqtt://", "mqtt://x:0", "mqtt://x:y", "mqtt://a@b:1", "mqtt://x:1/y"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
