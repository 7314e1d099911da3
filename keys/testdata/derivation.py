#!/usr/bin/env python3
"""Writes derivation.json: every key that holdfast derives with HKDF-SHA256, from fixed inputs.

Written from keys/FORMAT.md alone, with nothing but Python's hashlib and hmac, so
that it can disagree with the program. HKDF is RFC 5869.
"""

import hashlib
import hmac
import json


def frame(part: bytes) -> bytes:
    return len(part).to_bytes(2, "little") + part


def extract(salt: str, parts: list[bytes]) -> bytes:
    material = b"".join(frame(part) for part in parts)
    return hmac.new(salt.encode(), material, hashlib.sha256).digest()


def expand(key: bytes, info: bytes, length: int) -> bytes:
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:length]


CASES = []


def derive(name: str, salt: str, parts: list[bytes], purpose: str, context: list[bytes], length: int) -> bytes:
    info = b"".join(frame(part) for part in [purpose.encode(), *context]) + length.to_bytes(2, "little")
    out = expand(extract(salt, parts), info, length)
    CASES.append(
        {
            "name": name,
            "salt": salt,
            "parts": [part.hex() for part in parts],
            "purpose": purpose,
            "context": [part.hex() for part in context],
            "out": out.hex(),
        }
    )
    return out


def generation(number: int) -> bytes:
    return number.to_bytes(4, "little")


def main() -> None:
    seed = bytes(range(32))
    scope, writer, vault = b"\x51" * 16, b"\x52" * 16, b"\x53" * 16
    h0 = b"\x54" * 32

    for number in (1, 2, 0x01020304):
        for name, purpose in (("reader", "reader kem"), ("janitor", "janitor kem"),
                              ("root ed25519", "root ed25519"), ("root ml-dsa", "root ml-dsa-65")):
            derive(f"{name} {number}", "holdfast seed 1", [seed], purpose, [generation(number), b""], 32)
    dedup = derive("dedup root", "holdfast seed 1", [seed], "dedup root", [generation(1), b""], 32)
    id_key = derive("id key", "holdfast dedup root 1", [dedup], "dedup id key", [scope], 32)
    derive("chunker seed", "holdfast dedup root 1", [dedup], "chunker seed", [scope], 8)
    index = derive("index key", "holdfast seed 1", [seed], "writer index key", [generation(1), writer], 32)
    derive("path hash key", "holdfast id key 1", [id_key], "path hash key", [], 32)
    derive("stream name key", "holdfast index key 1", [index], "stream name key", [], 32)
    derive("own part key", "holdfast index key 1", [index], "own part key", [vault], 32)
    derive("own part nonce key", "holdfast index key 1", [index], "own part nonce key", [vault], 32)

    local = b"\x55" * 32
    derive("content hash key", "holdfast local secret 1", [local], "content hash key", [], 32)
    data = derive("data key", "holdfast data key 1", [b"\x56" * 32, local, b"\x57" * 32], "data key", [], 32)
    keys = derive("pack keys", "holdfast pack keys 1", [data], "seal and commit", [h0], 64)
    derive("index section", "holdfast index key 1", [index], "index section", [h0, keys[32:]], 32)
    print(json.dumps(CASES, indent=1))


main()
