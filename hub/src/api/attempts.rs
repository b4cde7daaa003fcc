//! Wrong secrets, counted by address and in all: whoever guesses waits.
//!
//! Logins and enrolments past the limit are refused before the secret is looked at. A good bearer
//! token always passes: its 256 bits are not to be guessed, and a stranger behind the same address
//! must not lock a fleet's automation out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bellwether_protocol::time::Millis;

/// How long wrong secrets are remembered, in seconds; also what `Retry-After` says.
pub const WINDOW_SECONDS: u64 = 60;
/// Wrong secrets of one address in that time: a person who mistypes, a script that was not updated.
pub const WRONG_MAX: u32 = 10;
/// Wrong secrets of all addresses together: guessing from many places is slow, too.
pub const WRONG_IN_ALL_MAX: u32 = 200;
/// Addresses remembered; beyond, only the sum counts.
const ADDRESSES_MAX: usize = 10_000;

/// What is guessed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// Login codes and tokens at the login page.
    Login,
    /// Bearer tokens.
    Bearer,
    /// Secrets of enrolment tokens.
    Enrol,
}

/// The wrong secrets of the latest minute.
#[derive(Debug, Default)]
pub struct Attempts(BTreeMap<Door, Window>);

#[derive(Debug, Default)]
struct Window {
    began: Millis,
    all: u32,
    by: BTreeMap<IpAddr, u32>,
}

impl Attempts {
    /// Whether this address may try again now. An unknown address counts in the sum only.
    #[must_use]
    pub fn may_try(&self, door: Door, from: Option<IpAddr>, now: Millis) -> bool {
        let Some(window) = self.0.get(&door).filter(|window| !window.is_over(now)) else { return true };
        let own = from.and_then(|from| window.by.get(&network(from))).copied().unwrap_or_default();
        own < WRONG_MAX && window.all < WRONG_IN_ALL_MAX
    }

    /// Remembers a wrong secret.
    pub fn wrong(&mut self, door: Door, from: Option<IpAddr>, now: Millis) {
        let window = self.0.entry(door).or_default();
        if window.is_over(now) {
            *window = Window { began: now, ..Window::default() };
        }
        window.all = window.all.saturating_add(1);
        if let Some(network) = from.map(network)
            && (window.by.len() < ADDRESSES_MAX || window.by.contains_key(&network))
        {
            let own = window.by.entry(network).or_default();
            *own = own.saturating_add(1);
        }
    }
}

impl Window {
    fn is_over(&self, now: Millis) -> bool {
        now.since(self.began) >= Millis::from_secs(WINDOW_SECONDS)
    }
}

/// An address, or the /64 of an IPv6 one: whoever has one has them all.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => long
            .to_ipv4_mapped()
            .map_or_else(|| IpAddr::V6((u128::from(long) & !u128::from(u64::MAX)).into()), IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    #[test]
    fn an_address_that_guesses_waits_for_a_minute() {
        let (mut attempts, now) = (Attempts::default(), Millis(1_000_000));
        for _ in 0..WRONG_MAX {
            assert!(attempts.may_try(Door::Login, address(1), now));
            attempts.wrong(Door::Login, address(1), now);
        }
        assert!(!attempts.may_try(Door::Login, address(1), now));
        assert!(attempts.may_try(Door::Login, address(2), now), "others are not held up");
        assert!(attempts.may_try(Door::Enrol, address(1), now), "each door counts for itself");
        let later = now.saturating_add(Millis::from_secs(WINDOW_SECONDS));
        assert!(attempts.may_try(Door::Login, address(1), later));
        attempts.wrong(Door::Login, address(1), later);
        assert!(attempts.may_try(Door::Login, address(1), later), "it begins anew");
    }

    #[test]
    fn guessing_from_many_places_is_slow_too() {
        let (mut attempts, now) = (Attempts::default(), Millis(5));
        for number in 0..WRONG_IN_ALL_MAX {
            attempts.wrong(Door::Login, address(u8::try_from(number % 250).unwrap()), now);
        }
        assert!(!attempts.may_try(Door::Login, address(251), now));
        assert!(!attempts.may_try(Door::Login, None, now));
    }

    #[test]
    fn all_addresses_of_one_network_are_one() {
        let (mut attempts, now) = (Attempts::default(), Millis(5));
        let long = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, last]));
        (0..WRONG_MAX).for_each(|_| attempts.wrong(Door::Enrol, long(1), now));
        assert!(!attempts.may_try(Door::Enrol, long(2), now));
        let mapped: IpAddr = "::ffff:10.0.0.9".parse().unwrap();
        (0..WRONG_MAX).for_each(|_| attempts.wrong(Door::Login, Some(mapped), now));
        assert!(!attempts.may_try(Door::Login, address(9), now));
    }
}
