//! Row 10 of the attack table: the published vectors of Project Wycheproof for Ed25519, and what they
//! do not hold: keys and nonces of small order, which a strict verifier must refuse.

use bellwether_protocol::trust::{PublicKey, SignatureBytes};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

#[test]
fn every_vector_is_judged_as_published() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in set.test_groups {
        let key = PublicKey(group.key.pk.as_ref().try_into().unwrap());
        for test in group.tests {
            let bytes: Result<[u8; 64], _> = test.sig.as_ref().try_into();
            // A signature of another length is none: the wire has room for 64 bytes only.
            let verifies = bytes.is_ok_and(|bytes| key.verifies(test.msg.as_ref(), &SignatureBytes::new(bytes)));
            let expected = matches!(test.result, TestResult::Valid | TestResult::Acceptable);
            assert_eq!(verifies, expected, "vector {}: {}", test.tc_id, test.comment);
            if expected { good += 1 } else { bad += 1 }
        }
    }
    assert!(good > 50 && bad > 30, "{good} good and {bad} bad vectors: too few to mean anything");
}

/// The eight points of small order, as they are encoded (the last two not canonically).
const SMALL_ORDER: [[u8; 32]; 4] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
    {
        let mut beyond = [0xff; 32];
        beyond[0] = 0xee;
        beyond[31] = 0x7f;
        beyond
    },
];

#[test]
fn a_key_of_small_order_verifies_nothing() {
    for point in SMALL_ORDER {
        let key = PublicKey(point);
        assert!(!key.is_usable(), "{key}");
        // With A and R of small order and s = 0 a lax verifier accepts any message.
        for nonce in SMALL_ORDER {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&nonce);
            assert!(!key.verifies(b"anything", &SignatureBytes::new(bytes)), "{key}");
        }
    }
}
