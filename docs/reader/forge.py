"""Makes, for the tests, what somebody with some keys could put beside the shards: certificates, points, packs of one
shard, by the documents alone. Nothing here is needed to read. A signer is a seed and a generation."""

import os

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import keys
import records
import rotated
from shards import merkle_root


def certificate(issuer, vault, role, subject, holder, scope=None, serial=1):
    body = [role, subject, keys.root_public(*holder), None, keys.fingerprint(keys.root_public(*issuer)), serial,
            0, 1 << 50, scope, "forged"]
    return rotated.envelope(issuer, 3, vault, body)


def chunk(key, kind, plain):
    return blake3(plain, key=key).digest(), kind, plain


def point(vault, writer, certificates, vault_record, chunks, name="forged", packs=(), history=(), finished=1 << 45):
    """The CBOR of a point record: a stream of these chunks."""
    data = b"".join(plain for _, _, plain in chunks)
    content = [len(data), 0, [[id_, len(plain)] for id_, _, plain in chunks]]
    root = [4, [[content, keys.H("holdfast stream hash 1", data), name]]]
    return records.encode([vault, writer, 9, 9, name, "a host", finished, finished, root, [list(pack) for pack in packs], None,
                           None, list(certificates), vault_record, list(history), [], [0] * 6])


def pack(vault, kem_seed, writer, certificate_hash, signer, chunks, spoil=0):
    """A pack of one shard, sealed to the reader of this KEM seed: its bytes, its id, its header hash. `spoil` alters the
    signature."""
    id_, leaves, payload = os.urandom(16), 4, 4 * 65536
    h0 = b"HFSHARD1\1\0\1\0" + bytes(4) + vault + writer + (9).to_bytes(8, "little") * 2 + id_ + bytes([1, 1, 1, 1])
    h0 += (65536).to_bytes(4, "little") + leaves.to_bytes(4, "little") + b"\1\0\0\0" + keys.Recipient(kem_seed).id
    h0 = h0.ljust(256, b"\0")
    hashed, data_key = keys.H("holdfast h0 hash 1", h0), os.urandom(32)
    slot = b"".join(rotated.seal(kem_seed, keys.frame(b"holdfast wrap 1") + keys.frame(hashed), data_key))
    both = keys.derive(b"holdfast pack keys 1", [data_key], b"seal and commit", [hashed], 64)
    gcm, body, table = AESGCM(both[:32]), b"", b""
    for number, (name, kind, plain) in enumerate(chunks):
        entry = name + len(plain).to_bytes(4, "little") * 2 + bytes([kind, 0, 0, 0])
        table += entry
        associated = b"holdfast frame 1" + id_ + number.to_bytes(4, "little") + name + entry[36:]
        body += gcm.encrypt(bytes(4) + number.to_bytes(8, "little"), plain, associated)
    body += os.urandom(8 + 40 * len(chunks) + 16)
    at, size = len(body), payload - 96 - len(body)
    count = len(chunks).to_bytes(4, "little")

    def section(part, domain, plain):
        return gcm.encrypt(bytes([domain]) + bytes(11), plain, b"holdfast sect. 1" + id_ + bytes([part, 0, 0, 0]))

    body += section(2, 1, (count + bytes(4) + table).ljust(size - 16, b"\0")) + os.urandom(48)
    body += section(4, 2, (at.to_bytes(8, "little") + size.to_bytes(8, "little") + count).ljust(32, b"\0"))
    head = (h0 + slot).ljust(3760, b"\0") + both[32:] + certificate_hash + merkle_root(body)
    head = head.ljust(4720, b"\0")
    signed = bytearray(rotated.sign(*signer, b"holdfast shard header 1", head))
    signed[5] ^= spoil
    head = (head + signed).ljust(8192, b"\0")
    return head + body, id_, keys.H("holdfast header hash 1", head[:8176])
