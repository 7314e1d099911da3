"""Shards and packs: finding, checking, decoding, opening (vault/FORMAT.md, sections 4 to 8).

What always holds: a shard counts only if the Merkle root of its payload is the one in its header;
nothing of a pack is opened before its key commitment agreed.
"""

import hmac
import os
import stat

import zstandard
from blake3 import blake3

from cards import Refused
from keys import Envelope, H, derive, frame, gcm_open, verifies

LEAF = 65536
LEAVES = {0: 1, 1: 4, 2: 16, 3: 64, 4: 192}
HEADER = 8192
ENVELOPE_MAX = 80 + (1 << 26) + 3373
PIECE = 1024


def u(data, at, size):
    return int.from_bytes(data[at:at + size], "little")


class Header:
    """The header of a shard, its fixed fields checked, its signatures not yet."""

    def __init__(self, data):
        self.data, self.h0 = data, data[:256]
        if data[:8] != b"HFSHARD1":
            raise Refused("no shard")
        if u(data, 8, 2) != 1 or u(data, 10, 2) != 1 or u(data, 12, 2):
            raise Refused("version, suite or critical flags that this reader does not know")
        self.vault, self.writer, self.pack = data[16:32], data[32:48], data[64:80]
        self.epoch, self.sequence = u(data, 48, 8), u(data, 56, 8)
        self.k, self.n, matrix, class_number = data[80:84]
        recipients = data[92]
        if not (1 <= self.k <= self.n <= 24 and (self.k < self.n or self.n == 1) and matrix == (1 if self.k == 1 else 2)
                and class_number in LEAVES and u(data, 84, 4) == LEAF and u(data, 88, 4) == LEAVES[class_number]
                and 1 <= recipients <= 3):
            raise Refused("a header with impossible numbers")
        self.payload = LEAVES[class_number] * LEAF
        self.slots = [(data[96 + 16 * i:112 + 16 * i], data[256 + 1168 * i:256 + 1168 * (i + 1)]) for i in range(recipients)]
        self.commitment, self.certificate = data[3760:3792], data[3792:3824]
        self.roots = [data[3824 + 32 * i:3856 + 32 * i] for i in range(self.n)]
        unused = (data[93:96], data[96 + 16 * recipients:256], data[256 + 1168 * recipients:3760],
                  data[3824 + 32 * self.n:4720], data[8093:8176], data[8177:8192])
        if any(map(any, unused)):
            raise Refused("reserved bytes that are not zero")
        self.index = data[8176]
        if self.index >= self.n:
            raise Refused("a shard number that cannot be")
        self.hash = H("holdfast header hash 1", data[:8176])

    def signed_by(self, public):
        return verifies(public, b"holdfast shard header 1", self.data[:4720], self.data[4720:8093])


def merkle_root(payload):
    level = [blake3(b"\0" + payload[at:at + LEAF]).digest() for at in range(0, len(payload), LEAF)]
    while len(level) > 1:
        paired = [blake3(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2:]
    return level[0]


# GF(256) with x^8 + x^4 + x^3 + x^2 + 1.
EXP, LOG = [0] * 510, [0] * 256
_value = 1
for _power in range(255):
    EXP[_power] = EXP[_power + 255] = _value
    LOG[_value] = _power
    _value = _value << 1 ^ (0x11D if _value & 0x80 else 0)


def times(a, b):
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def inverse(matrix):
    """Gauss and Jordan, in the field."""
    size = len(matrix)
    rows = [list(row) + [int(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = EXP[255 - LOG[rows[column][column]]]
        rows[column] = [times(scale, value) for value in rows[column]]
        for i in range(size):
            if i != column and rows[i][column]:
                factor = rows[i][column]
                rows[i] = [value ^ times(factor, other) for value, other in zip(rows[i], rows[column])]
    return [row[size:] for row in rows]


def product(left, right):
    out = [[0] * len(right[0]) for _ in left]
    for i, row in enumerate(left):
        for j, factor in enumerate(row):
            for c, value in enumerate(right[j]):
                out[i][c] ^= times(factor, value)
    return out


def body_of(k, n, payloads):
    """The body of a pack from k payloads {index: bytes}."""
    if k == 1:
        return next(iter(payloads.values()))
    powers = [[1 if c == 0 else (EXP[LOG[r] * c % 255] if r else 0) for c in range(k)] for r in range(n)]
    code = product(powers, inverse(powers[:k]))
    used = sorted(payloads)
    back, parts = inverse([code[index] for index in used]), []
    for number, row in enumerate(back):
        if number in payloads:
            parts.append(payloads[number])
            continue
        total, size = 0, len(payloads[used[0]])
        for factor, index in zip(row, used):
            multiplied = payloads[index].translate(bytes(times(factor, value) for value in range(256)))
            total ^= int.from_bytes(multiplied, "little")
        parts.append(total.to_bytes(size, "little"))
    return b"".join(parts)


class Pack:
    """The shards with one header, and what is inside once it was opened."""

    def __init__(self, header):
        self.header, self.places, self.bad = header, {}, []
        self.table = None

    def __str__(self):
        return f"pack {self.header.pack.hex()}"

    def body(self):
        payloads = {}
        for index, paths in sorted(self.places.items()):
            for path in paths:
                try:
                    with open_file(path) as file:
                        file.seek(HEADER)
                        payload = file.read(self.header.payload)
                except OSError:
                    payload = b""
                if len(payload) == self.header.payload and merkle_root(payload) == self.header.roots[index]:
                    payloads[index] = payload
                    break
                if path not in self.bad:
                    self.bad.append(path)
            if len(payloads) == self.header.k:
                return body_of(self.header.k, self.header.n, payloads)
        damaged = "".join(f"\n  damaged: {path}" for path in self.bad)
        raise Refused(f"{self}: {len(payloads)} good shards of the {self.header.k} that are needed{damaged}")

    def open(self, recipients):
        """Reads the table of contents. True if one of the keys is a recipient's."""
        header = self.header
        held = [(recipients[name], slot) for name, slot in header.slots if name in recipients]
        if not held:
            return False
        body = self.body()
        h0 = H("holdfast h0 hash 1", header.h0)
        data_key = held[0][0].open(held[0][1][:1120], held[0][1][1120:], frame(b"holdfast wrap 1") + frame(h0))
        keys = derive(b"holdfast pack keys 1", [data_key], b"seal and commit", [h0], 64)
        if not hmac.compare_digest(keys[32:], header.commitment):
            raise Refused(f"{self}: its key is not the one the header commits to")
        self.key = keys[:32]
        locator = self.section(4, 2, body[-48:])
        at, size, count = u(locator, 0, 8), u(locator, 8, 8), u(locator, 16, 4)
        table = self.section(2, 1, body[at:at + size]) if at + size == len(body) - 96 else b""
        if len(table) < 8 + 44 * count or u(table, 0, 4) != count or any(table[4:8]) or any(table[8 + 44 * count:]):
            raise Refused(f"{self}: its table of contents is not where it must be")
        self.table, offset = [], 0
        for number in range(count):
            entry = table[8 + 44 * number:52 + 44 * number]
            coded, plain, kind, codec = u(entry, 32, 4), u(entry, 36, 4), entry[40], entry[41]
            if kind not in (1, 2, 3, 4) or codec not in (0, 1) or any(entry[42:]) or plain > 1 << 26 \
                    or codec == 0 and coded != plain:
                raise Refused(f"{self}: entry {number} of its table is impossible")
            self.table.append((entry[:32], plain, kind, codec, offset, coded + 16))
            offset += coded + 16
        if offset + 8 + 40 * count + 16 != at:
            raise Refused(f"{self}: gaps or overlaps in the body")
        return True

    def section(self, part, domain, sealed):
        associated = b"holdfast sect. 1" + self.header.pack + bytes([part, 0, 0, 0])
        return gcm_open(self.key, bytes([domain]) + bytes(11), sealed, associated)

    def chunk(self, body, number):
        name, plain, kind, codec, offset, size = self.table[number]
        associated = (b"holdfast frame 1" + self.header.pack + number.to_bytes(4, "little") + name
                      + plain.to_bytes(4, "little") + bytes([kind, codec, 0, 0]))
        coded = gcm_open(self.key, bytes(4) + number.to_bytes(8, "little"), body[offset:offset + size], associated)
        if codec == 0:
            return coded
        decoder, pieces, total = zstandard.ZstdDecompressor().decompressobj(), [], 0
        try:
            # In pieces: a few bytes of zstd can stand for gigabytes, and this may be anyone's pack.
            for at in range(0, len(coded), PIECE):
                if decoder.eof or total > plain:
                    raise Refused(f"{self}: chunk {number} has another length than its table says")
                pieces.append(decoder.decompress(coded[at:at + PIECE]))
                total += len(pieces[-1])
        except zstandard.ZstdError as error:
            raise Refused(f"{self}: chunk {number} does not decompress: {error}") from error
        if total != plain or not decoder.eof or decoder.unused_data:
            raise Refused(f"{self}: chunk {number} has another length than its table says")
        return b"".join(pieces)


def open_file(path):
    """A regular file; never waits for the other end of a pipe."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("it is no regular file any more")
    return file


def scan(folders):
    """Everything under the folders: packs by (id, header hash), signed records, and what could not be read."""
    packs, envelopes, complaints = {}, {}, []

    def complain(error):
        complaints.append(f"{error.filename or 'a folder'}: {error.strerror}; what is in it was not looked at")

    for folder in folders:
        try:
            if not stat.S_ISDIR(os.stat(folder).st_mode):
                raise Refused(f"{folder} is no folder")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Refused(f"{folder} is no folder") from error
        except OSError as error:
            complain(error)  # A dying disk: the others may be enough.
            continue
        for inside, folders_inside, names in os.walk(folder, onerror=complain):
            folders_inside.sort()
            for path in (os.path.join(inside, name) for name in sorted(names)):
                try:
                    if stat.S_ISREG(os.lstat(path).st_mode):
                        take(path, packs, envelopes)
                except (Refused, OSError) as error:
                    complaints.append(f"{path}: {getattr(error, 'strerror', None) or error}")
    return packs, envelopes, complaints


def take(path, packs, envelopes):
    """A shard or a signed record; other files are nothing to us."""
    with open_file(path) as file:
        data = file.read(HEADER)
        if data[:8] == b"HFSHARD1":
            if len(data) < HEADER:
                raise Refused("a shard that is cut short")
            header = Header(data)
            pack = packs.setdefault((header.pack, header.hash), Pack(header))
            pack.places.setdefault(header.index, []).append(path)
        elif data[:8] == b"HFRECRD1":
            raw = data + file.read(ENVELOPE_MAX)
            envelope = Envelope(raw, path)
            envelopes.setdefault(envelope.hash, (envelope, raw))
