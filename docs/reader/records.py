"""Records: deterministic CBOR against the tables of vault/FORMAT.md.

What always holds: a record is encoded again and compared, so there is one spelling of each;
lengths and ranges are those of the tables.
"""

from cards import Refused

# Field types: u8..u64, i64, bool, str, blob, and b32, b16 for byte strings of that length; e5 is an
# enumeration 1 to 5; [T] a list; T? may be null; another name is a record.
TABLES = {
    "Content": "bytes u64, depth u8, chunks [ChunkRef]",
    "ChunkRef": "id b32, bytes u32",
    "ChunkList": "chunks [ChunkRef]",
    "Listing": "entries [Entry]",
    "Entry": "name blob, kind e7, mode u32, uid u32, gid u32, user blob?, group blob?, mtime_s i64, mtime_ns u32, "
             "size u64, content Content?, target blob?, xattrs [Xattr], device u64, link_group u64, holes [Hole], flags u32",
    "Xattr": "name blob, value blob",
    "Hole": "offset u64, bytes u64",
    "PointRecord": "vault b16, writer b16, epoch u64, sequence u64, source str, host str, started_ms i64, finished_ms i64, "
                   "root PointRoot, packs [PackRef], packs_more Content?, previous b16?, certificates [blob], "
                   "vault_record blob, key_history [KeyHistoryEntry], tags [str], statistics Statistics, successor_of b16?",
    "Root1": "snapshot Content, log Content, lineage b16, snapshot_sequence u64, sequence u64, state_hash b32, chain_hash b32",
    "Root2": "content Content, hash b32",
    "Root3": "files Content, server_manifest Content, log Content, hash b32, system u64, timeline u32, version u32, "
             "start_lsn u64, end_lsn u64",
    "Root4": "content Content, hash b32, name str",
    "Statistics": "items u64, changed u64, unreadable u64, plain_bytes u64, new_bytes u64, packed_bytes u64",
    "PackRef": "pack b16, header b32",
    "SealedBlob": "recipient b16, enc blob, ciphertext blob",
    "KeyHistoryEntry": "generation u32, role e2, recipient b16, seed SealedBlob",
    "VaultRecord": "epoch u64, previous b32, root_public blob, data_shards u8, total_shards u8, chunk_min u32, "
                   "chunk_average u32, chunk_max u32, class_max u8, floor_suite u16, recipients [KemKey], "
                   "key_history [KeyHistoryEntry], operators [blob], card_sets [CardSet], predecessors [CrossSignature], "
                   "created_ms i64",
    "KemKey": "generation u32, role e2, public blob",
    "CardSet": "number u32, need u8, cards [b32], created_ms i64",
    "CrossSignature": "root_public blob, signatures blob",
    "Certificate": "role e5, subject b16, public_keys blob, kem_public blob?, issuer b32, serial u64, not_before_ms i64, "
                   "not_after_ms i64, scope b16?, name str",
    "Revocation": "certificate b32, subject b16, epoch u64, sequence u64, reason str, created_ms i64",
}


def encode(value):
    if value is None or isinstance(value, bool):
        return {None: b"\xf6", False: b"\xf4", True: b"\xf5"}[value]
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    return head(4, len(value)) + b"".join(map(encode, value))


def head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | code]) + number.to_bytes(size, "big")
    raise Refused("a number of more than 64 bits")


def decode(data, at=0, deep=0):
    """One value and where it ends. What is spelt in another way is found by encoding again."""
    if at >= len(data) or deep > 16:
        raise Refused("a record is cut short")
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if major == 7:
        if low not in (20, 21, 22):
            raise Refused("a record holds a value of no known kind")
        return {20: False, 21: True, 22: None}[low], at
    if low > 27 or major in (5, 6):
        raise Refused("a record holds a value of no known kind")
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(low, 0)
    number = int.from_bytes(data[at:at + size], "big") if size else low
    at += size
    if major < 2:
        return (number if major == 0 else -1 - number), at
    if number > len(data) - at:
        raise Refused("a record is cut short")
    if major < 4:
        piece = data[at:at + number]
        return (piece if major == 2 else piece.decode()), at + number
    items = []
    for _ in range(number):
        item, at = decode(data, at, deep + 1)
        items.append(item)
    return items, at


def fit(value, kind):
    """The value as what the table says it is: records become dictionaries, with the raw array under "raw"."""
    if kind.endswith("?"):
        return None if value is None else fit(value, kind[:-1])
    if kind.startswith("["):
        good = isinstance(value, list)
        return [fit(item, kind[1:-1]) for item in value] if good else wrong(kind)
    if kind == "PointRoot":
        good = (isinstance(value, list) and len(value) == 2 and type(value[0]) is int and 1 <= value[0] <= 4
                and isinstance(value[1], list) and len(value[1]) == 1)
        return (value[0], fit(value[1][0], f"Root{value[0]}")) if good else wrong(kind)
    if kind in TABLES:
        fields = [field.split() for field in TABLES[kind].split(", ")]
        if not isinstance(value, list) or len(value) > len(fields) or value and value[-1] is None:
            wrong(kind)
        full = value + [None] * (len(fields) - len(value))
        return {name: fit(item, its) for item, (name, its) in zip(full, fields)} | {"raw": value}
    if kind == "bool" or kind == "str" or kind == "blob":
        good = isinstance(value, {"bool": bool, "str": str, "blob": bytes}[kind])
    elif kind[0] == "b":
        good = isinstance(value, bytes) and len(value) == int(kind[1:])
    else:
        good = isinstance(value, int) and not isinstance(value, bool)
        bits = int(kind[1:])
        if good and kind[0] == "e":
            good = 1 <= value <= bits
        elif good:
            good = 0 <= value < 1 << bits if kind[0] == "u" else -(1 << bits - 1) <= value < 1 << bits - 1
    return value if good else wrong(kind)


def wrong(kind):
    raise Refused(f"a record does not hold what the format says ({kind})")


def read(data, kind):
    try:
        value, end = decode(data)
    except UnicodeDecodeError as error:
        raise Refused(f"a text in a {kind} is not UTF-8") from error
    if end != len(data) or encode(value) != data:
        raise Refused(f"a {kind} is not in its one encoding")
    return fit(value, kind)
