"""Verifies a DSSE envelope with securesystemslib, knowing only the registry's public key, and prints
the in-toto statement in it. With any one byte of payload or signature changed it must not verify."""

import base64
import copy
import json
import sys

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey


def is_verified(envelope: dict, key: SSlibKey) -> bool:
    # from_dict rewrites the signatures of what it is given.
    opened = Envelope.from_dict(copy.deepcopy(envelope))
    try:
        return opened.verify([key], 1).keys() == {key.keyid}
    except VerificationError:
        return False


def flipped(text: str, place: int) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[place] ^= 1
    return base64.b64encode(raw).decode()


def main() -> None:
    path, keyid, public = sys.argv[1:]
    with open(path) as file:
        envelope = json.load(file)
    key = SSlibKey(keyid, "ed25519", "ed25519", {"public": public})
    stranger = SSlibKey(keyid, "ed25519", "ed25519", {"public": "aa" * 32})
    assert is_verified(envelope, key), "the envelope does not verify"
    assert not is_verified(envelope, stranger), "it verifies with another key"
    payload = base64.b64decode(envelope["payload"])
    refused = 0
    # Its verifier is plain Python, and slow: a dozen places of each are as good as all.
    for place in range(0, len(payload), max(1, len(payload) // 12)):
        changed = dict(envelope, payload=flipped(envelope["payload"], place))
        assert not is_verified(changed, key), f"byte {place} of the payload was changed unseen"
        refused += 1
    for place in range(0, 64, 6):
        signature = dict(envelope["signatures"][0])
        signature["sig"] = flipped(signature["sig"], place)
        changed = dict(envelope, signatures=[signature])
        assert not is_verified(changed, key), f"byte {place} of the signature was changed unseen"
        refused += 1
    changed = dict(envelope, payloadType="application/json")
    assert not is_verified(changed, key), "the type of the payload was changed unseen"
    print(json.dumps({"refused": refused + 1, "statement": json.loads(payload)}))


if __name__ == "__main__":
    main()
