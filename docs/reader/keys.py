"""Keys: derivation, opening what was sealed to a public key, signatures (keys/FORMAT.md, sections 1 to 5).

What always holds: a signature counts only if both halves verify, a certificate only if its issuer may issue it.
"""

import functools
import hashlib
import hmac
import os

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import records
from cards import Refused

try:  # The two lattice algorithms: newer versions of `cryptography` have them, else two packages in plain Python.
    if os.environ.get("READER_PLAIN_PYTHON"):
        raise ImportError
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

    def kem_pair(seed):
        key = MLKEM768PrivateKey.from_seed_bytes(seed)
        return key.public_key().public_bytes_raw(), key.decapsulate

    def ml_dsa_public(seed):
        return MLDSA65PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()

    def ml_dsa_verifies(public, message, signature):
        try:
            MLDSA65PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True
except ImportError:
    from dilithium_py.ml_dsa import ML_DSA_65
    from kyber_py.ml_kem import ML_KEM_768

    def kem_pair(seed):
        public, private = ML_KEM_768.key_derive(seed)
        return public, lambda ciphertext: ML_KEM_768.decaps(private, ciphertext)

    def ml_dsa_public(seed):
        return ML_DSA_65.key_derive(seed)[0]

    def ml_dsa_verifies(public, message, signature):
        try:
            return ML_DSA_65.verify(public, message, signature)
        except ValueError:
            return False


def H(label, data):
    return blake3(data, derive_key_context=label).digest()


def frame(data):
    return len(data).to_bytes(2, "little") + data


def expand(key, info, size):
    out, block, count = b"", b"", 0
    while len(out) < size:
        count += 1
        block = hmac.digest(key, block + info + bytes([count]), "sha256")
        out += block
    return out[:size]


def derive(salt, parts, purpose, context, size):
    key = hmac.digest(salt, b"".join(map(frame, parts)), "sha256")
    return expand(key, frame(purpose) + b"".join(map(frame, context)) + size.to_bytes(2, "little"), size)


def from_seed(seed, purpose, generation, subject=b""):
    return derive(b"holdfast seed 1", [seed], purpose, [generation.to_bytes(4, "little"), subject], 32)


def id_key(dedup_root, scope):
    return derive(b"holdfast dedup root 1", [dedup_root], b"dedup id key", [scope], 32)


def root_public(seed, generation):
    """The verifying keys of a generation's root: Ed25519, then ML-DSA-65."""
    ed = Ed25519PrivateKey.from_private_bytes(from_seed(seed, b"root ed25519", generation))
    return ed.public_key().public_bytes_raw() + ml_dsa_public(from_seed(seed, b"root ml-dsa-65", generation))


def fingerprint(public):
    return H("holdfast key fingerprint 1", public)


class Recipient:
    """An X-Wing key from its 32-byte seed (draft-connolly-cfrg-xwing-kem)."""

    def __init__(self, seed):
        expanded = hashlib.shake_256(seed).digest(96)
        ml_kem, self.decapsulate_ml_kem = kem_pair(expanded[:64])
        self.x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        self.x25519_public = self.x25519.public_key().public_bytes_raw()
        self.id = H("holdfast recipient id 1", ml_kem + self.x25519_public)[:16]

    def open(self, enc, ciphertext, info):
        """HPKE base mode, single shot, no associated data (RFC 9180)."""
        if len(enc) != 1120:
            raise Refused("an encapsulation of another length")
        try:
            classic = self.x25519.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        except ValueError as error:
            raise Refused("an encapsulation whose X25519 half gives the zero point") from error
        shared = hashlib.sha3_256(self.decapsulate_ml_kem(enc[:1088]) + classic + enc[1088:] + self.x25519_public
                                  + rb"\.//^" + b"\\").digest()
        suite = b"HPKE" + b"\x64\x7a" + b"\x00\x01" + b"\x00\x02"

        def extract(salt, label, material):
            return hmac.digest(salt, b"HPKE-v1" + suite + label + material, "sha256")

        context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
        secret = extract(shared, b"secret", b"")
        key, nonce = (expand(secret, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context, size)
                      for label, size in ((b"key", 32), (b"base_nonce", 12)))
        return gcm_open(key, nonce, ciphertext, b"")


def gcm_open(key, nonce, ciphertext, associated):
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, associated)
    except InvalidTag as error:
        raise Refused("a seal does not open: other key, or altered bytes") from error


@functools.lru_cache(maxsize=2000)
def verifies(public, label, message, signatures):
    """Both signatures, Ed25519 first, over the framed label and the message."""
    signed = frame(label) + message
    try:
        Ed25519PublicKey.from_public_bytes(public[:32]).verify(signatures[:64], signed)
    except (InvalidSignature, ValueError):
        return False
    return len(public) == 1984 and len(signatures) == 3373 and ml_dsa_verifies(public[32:], signed, signatures[64:])


KINDS = {1: "vault", 2: "layout", 3: "certificate", 4: "manifest", 5: "tombstone", 6: "revocation", 7: "fence", 8: "note"}
BODIES = {1: "VaultRecord", 3: "Certificate", 6: "Revocation"}


class Envelope:
    """A signed record, parsed and not yet believed."""

    def __init__(self, data, place="a record"):
        self.place = place
        self.size = 80 + int.from_bytes(data[64:68], "little") + 3373
        if data[:8] != b"HFRECRD1" or len(data) != self.size or data[8:12] != b"\1\0\1\0" or data[14] or any(data[68:80]):
            raise Refused("not a record of version 1, suite 1")
        self.kind = int.from_bytes(data[12:14], "little")
        self.vault, self.signer, self.hash = data[16:32], data[32:64], H("holdfast envelope hash 1", data)
        self.signed, self.signatures = data[:-3373], data[-3373:]
        self.body = records.read(self.signed[80:], BODIES[self.kind]) if self.kind in BODIES else None

    def verify(self, public, vault, what):
        label = b"holdfast record 1 " + KINDS.get(self.kind, "").encode()
        if self.vault != vault:
            raise Refused(f"{what} is of another vault")
        if self.signer != fingerprint(public) or not verifies(public, label, self.signed, self.signatures):
            raise Refused(f"{what} is not signed by {public[:3].hex()}..: a signature is wrong")
        return self.body


def certified(operator, writer, root, vault):
    """The writer's certificate and the operator's, the chain from the root verified (section 6)."""
    issuer, expected, checked = root, 1, []
    for data, what in ((operator, "the operator certificate"), (writer, "the writer certificate")):
        envelope = Envelope(data)
        if envelope.kind != 3:
            raise Refused(f"{what} is no certificate")
        body = envelope.verify(issuer, vault, what)
        role = body["role"]
        if body["issuer"] != envelope.signer or body["not_before_ms"] > body["not_after_ms"] or \
                (role == 1) != (expected == 1) or role == 2 and body["scope"] is None or \
                body["public_keys"] in (issuer, root) or expected == 2 and role not in (2, 5):
            raise Refused(f"{what} does not allow this")
        checked.append((body, envelope.hash))
        issuer, expected = body["public_keys"], 2
    return checked[1], checked[0]
