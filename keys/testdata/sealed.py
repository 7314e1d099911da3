#!/usr/bin/env python3
"""Seals key files of vectors/ with a passphrase, into sealed/.

Written from keys/FORMAT.md alone, with other people's Argon2id (argon2-cffi), AES-GCM
(cryptography) and BLAKE3 (blake3), so that it can disagree with the program.
"""

import hashlib
import hmac
from pathlib import Path

from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
PASSPHRASE = "correct hörse battery staple".encode()
SALT = bytes(range(16))
# name, memory in KiB, passes, lanes
FILES = [("operator.key", 65536, 3, 4), ("master.seed", 8192, 1, 1)]


def frame(part: bytes) -> bytes:
    return len(part).to_bytes(2, "little") + part


def derive(salt: bytes, part: bytes, purpose: bytes, length: int) -> bytes:
    key = hmac.new(salt, frame(part), hashlib.sha256).digest()
    info, out, block, count = frame(purpose) + length.to_bytes(2, "little"), b"", b"", 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([count]), hashlib.sha256).digest()
        out, count = out + block, count + 1
    return out[:length]


def seal(text: str, kib: int, passes: int, lanes: int) -> str:
    head, body, _ = text.split("\n\n")
    plain = bytes.fromhex(body.replace("\n", ""))
    lines = head.split("\n")
    assert lines[4] == "seal: none" and lines[5] == f"body: {len(plain)} bytes"
    lines[4] = f"seal: passphrase\nargon2id: {kib} KiB, {passes} passes, {lanes} lanes, salt {SALT.hex()}"
    lines[5] = f"body: {len(plain) + 32 + 12 + 16} bytes"
    head = "\n".join(lines) + "\n\n"
    stretched = hash_secret_raw(PASSPHRASE, SALT, passes, kib, lanes, 32, Type.ID, 0x13)
    keys = derive(b"holdfast sealed key file 1", stretched, b"seal, nonce and commit", 96)
    nonce = blake3(plain, key=keys[32:64]).digest()[:12]
    sealed = keys[64:] + nonce + AESGCM(keys[:32]).encrypt(nonce, plain, head.encode())
    rows = [sealed[at : at + 32].hex() for at in range(0, len(sealed), 32)]
    covered = head + "\n".join(rows) + "\n\n"
    check = blake3(covered.encode(), derive_key_context="holdfast key file check 1").digest()[:16]
    return covered + f"check: {check.hex()}\n"


(HERE / "sealed/passphrase.txt").write_bytes(PASSPHRASE + b"\n")
for name, kib, passes, lanes in FILES:
    text = (HERE / "vectors" / name).read_text(encoding="ascii")
    (HERE / "sealed" / name).write_text(seal(text, kib, passes, lanes), encoding="ascii")
