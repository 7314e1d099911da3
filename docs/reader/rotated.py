"""Makes, for the tests, what a change of the seed makes: the vault record of the next generation, by the documents
alone. Nothing here is needed to read."""

import hashlib
import hmac
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import keys
import records


def sign(seed, generation, label, message):
    signed = keys.frame(label) + message
    ed = Ed25519PrivateKey.from_private_bytes(keys.from_seed(seed, b"root ed25519", generation))
    ml = MLDSA65PrivateKey.from_seed_bytes(keys.from_seed(seed, b"root ml-dsa-65", generation))
    return ed.sign(signed) + ml.sign(signed)


def seal(kem_seed, info, plain):
    """HPKE base mode to the X-Wing key of this seed: enc and ciphertext."""
    expanded = hashlib.shake_256(kem_seed).digest(96)
    shared, ciphertext = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().encapsulate()
    public = X25519PrivateKey.from_private_bytes(expanded[64:]).public_key()
    ephemeral = X25519PrivateKey.from_private_bytes(os.urandom(32))
    sent = ephemeral.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(shared + ephemeral.exchange(public) + sent + public.public_bytes_raw() + b"\\.//^\\").digest()
    suite = b"HPKE-v1HPKE\x64\x7a\0\1\0\2"
    context = b"\0" + hmac.digest(b"", suite + b"psk_id_hash", "sha256") + hmac.digest(b"", suite + b"info_hash" + info, "sha256")
    secret = hmac.digest(shared, suite + b"secret", "sha256")
    key = keys.expand(secret, b"\0\x20" + suite + b"key" + context, 32)
    nonce = keys.expand(secret, b"\0\x0c" + suite + b"base_nonce" + context, 12)
    return ciphertext + sent, AESGCM(key).encrypt(nonce, plain, b"")


def envelope(signer, kind, vault, body):
    """A signed record: `signer` is a seed and a generation, whose root keys sign; `body` the record's fields."""
    body = records.encode(body)
    head = b"HFRECRD1\1\0\1\0" + kind.to_bytes(2, "little") + bytes(2) + vault + keys.fingerprint(keys.root_public(*signer))
    head += len(body).to_bytes(4, "little") + bytes(12)
    return head + body + sign(*signer, b"holdfast record 1 " + keys.KINDS[kind].encode(), head + body)


def vault_record(former, seeds, spoil=lambda cross: cross):
    """The envelope that follows `former` (an envelope's bytes) after rotations through `seeds`, oldest first: the seed
    of generation 1, then the newer ones. Each generation's keys are sealed to the next. `spoil` alters cross signatures."""
    before = keys.Envelope(former)
    fields = [field.split()[0] for field in records.TABLES["VaultRecord"].split(", ")]
    record = dict(zip(fields, records.decode(former[80:-3373])[0]))
    newest = len(seeds)
    for older in range(1, newest):
        new, old = seeds[older], seeds[older - 1]
        kem_seed = keys.from_seed(old, b"reader kem", older)
        secrets = kem_seed + keys.from_seed(old, b"dedup root", older)
        info = keys.frame(b"holdfast sealed 1 key history") + keys.frame(before.vault)
        newer = keys.from_seed(new, b"reader kem", older + 1)
        sealed = [keys.Recipient(newer).id, *seal(newer, info, secrets)]
        record["key_history"].append([older, 1, keys.Recipient(kem_seed).id, sealed])
        next_root = keys.root_public(new, older + 1)
        cross = sign(old, older, b"holdfast cross signature 1", next_root)
        record["predecessors"].append([keys.root_public(old, older), spoil(cross)])
        record["root_public"] = next_root
    record["epoch"] += newest - 1
    root = (seeds[-1], newest)
    for number, raw in enumerate(record["operators"]):
        # The operators keep their keys and get new certificates.
        operator = keys.Envelope(raw).body["raw"]
        operator[4] = keys.fingerprint(record["root_public"])
        record["operators"][number] = envelope(root, 3, before.vault, operator)
    return envelope(root, 1, before.vault, list(record.values()))
