//! Keys that ask to be listed: usable ones, few of them, gone once the root has answered.

use bellwether_hub_core::Denied;
use bellwether_hub_core::event::What;
use bellwether_hub_core::keyring::{KEY_REQUESTS_MAX, KeyRequest};
use bellwether_protocol::SigningKey;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{KeyClass, PublicKey};

use crate::world::{BO, World, device_key, key_id};

fn request(public: PublicKey, person: &str) -> KeyRequest {
    KeyRequest {
        public,
        person: person.parse().unwrap(),
        class: KeyClass::Browser,
        name: "laptop".to_owned(),
        at: Millis(7),
        by: "dee's token".to_owned(),
    }
}

fn waiting(world: &World) -> usize {
    world.rules.key_requests().count()
}

#[test]
fn a_key_asks_once_and_is_taken_back() {
    let mut world = World::new();
    let dee = request(device_key(1), "Dee");
    world.take(world.rules.request_key(dee.clone()));
    world.take(world.rules.request_key(KeyRequest { at: Millis(9), by: "again".to_owned(), ..dee.clone() }));
    assert_eq!(world.rules.key_request(dee.id()), Ok(&dee));
    let other = world.rules.request_key(request(device_key(1), "Mallory"));
    assert_eq!(other.err(), Some(Denied::KeyAsked(dee.id())), "nobody puts another name on a key that waits");
    world.take(world.rules.withdraw_key_request(dee.id(), "Dee", world.now));
    assert_eq!(waiting(&world), 0);
    let gone = world.rules.withdraw_key_request(dee.id(), "Dee", world.now);
    assert_eq!(gone.err(), Some(Denied::NoKeyRequest(dee.id())));
    let told: Vec<String> = world.events().map(What::kind).map(str::to_owned).collect();
    assert_eq!(told, ["root_set", "key_requested", "key_request_withdrawn"]);
}

#[test]
fn a_key_that_verifies_nothing_or_claims_to_be_the_hubs_does_not_ask() {
    let world = World::new();
    // Two points of small order: some signatures hold under them whoever made them.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    for public in [PublicKey(neutral), PublicKey([0; 32])] {
        assert_eq!(world.rules.request_key(request(public, "Dee")).err(), Some(Denied::WeakKey(public.id())));
    }
    let hub = KeyRequest { class: KeyClass::Hub, ..request(device_key(1), "hub") };
    assert_eq!(world.rules.request_key(hub.clone()).err(), Some(Denied::WeakKey(hub.id())));
}

#[test]
fn the_root_answers_and_what_it_lists_need_not_ask() {
    let mut world = World::default();
    let bo = PublicKey(SigningKey::from_bytes(&[BO; 32]).verifying_key().to_bytes());
    world.take(world.rules.request_key(request(bo, "Bo")));
    world.take(world.rules.request_key(request(device_key(1), "Dee")));
    assert_eq!(waiting(&world), 2);
    world.set_root();
    assert_eq!(waiting(&world), 1);
    assert_eq!(world.rules.request_key(request(bo, "Bo")).err(), Some(Denied::KeyListed(key_id(BO))));
}

#[test]
fn only_so_many_wait() {
    let mut world = World::new();
    for n in 1..=u8::try_from(KEY_REQUESTS_MAX).unwrap() {
        world.take(world.rules.request_key(request(device_key(n), "Dee")));
    }
    let more = world.rules.request_key(request(device_key(99), "Dee"));
    assert_eq!(more.err(), Some(Denied::KeyRequestsFull));
}
