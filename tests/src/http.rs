//! HTTP as tests want it: to loopback, through no proxy.

use bellwether_link::tls;

/// A client of services on this machine.
#[must_use]
pub fn client() -> reqwest::Client {
    builder().build().expect("an HTTP client")
}

/// The same, to be told more.
pub fn builder() -> reqwest::ClientBuilder {
    // reqwest asks the process for its cryptography, whether or not there will be any.
    tls::install();
    reqwest::Client::builder().no_proxy()
}
