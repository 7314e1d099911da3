#!/usr/bin/env python3
"""Reads the golden kernel files by FORMAT.md alone, and computes the state hash and the log's chain anew.

Shares no code with the kernel. Needs the package `blake3`. Prints what it found; exits 1 if anything differs.
usage: check.py [FOLDER]
"""
import struct
import sys
from pathlib import Path

from blake3 import blake3

ZERO = bytes(32)


def h(label, data):
    return blake3(data, key=label.encode().ljust(32, b"\0")).digest()


def key(data):
    return h("holdfast kernel 1 tree key", data)


def value(data):
    return h("holdfast kernel 1 value", data)


def root(pairs, depth=0):
    """Section 6: the root of a set of (key, digest), by its definition."""
    if not pairs:
        return ZERO
    if len(pairs) == 1:
        return h("holdfast kernel 1 tree leaf", pairs[0][0] + pairs[0][1])
    side = ([], [])
    for pair in pairs:
        side[pair[0][depth // 8] >> (7 - depth % 8) & 1].append(pair)
    return h("holdfast kernel 1 tree inner", root(side[0], depth + 1) + root(side[1], depth + 1))


def rooted(pairs):
    return root(pairs) + struct.pack("<Q", len(pairs))


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "truncated"
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def sized(self):
        return self.take(self.number("I"))

    def name(self):
        return self.take(self.number("H"))

    def left(self):
        return len(self.data) - self.at


def record(r):
    start = r.at
    id16 = r.take(16)
    r.number("Q"), r.sized()
    r.take(4 * r.number("I"))
    return id16, r.data[start:r.at]


def node(r):
    start = r.at
    id16 = r.take(16)
    r.take(2 + 1 + 1 + 4 + 8 + 16), r.sized()
    return id16, r.data[start:r.at]


def edge(r):
    start = r.at
    id16 = r.take(16)
    r.take(2 + 2 + 4 + 8 + 16 + 16), r.sized()
    return id16, r.data[start:r.at]


def trash_entry(r):
    start = r.at
    kind, deleted_at = r.take(4), r.take(8)
    id16, _ = (None, record, node, edge)[kind[0]](r)
    return kind + id16 + deleted_at, r.data[start:r.at]


def kind(r):
    start = r.at
    tree_key = r.take(4)
    r.name()
    return tree_key, r.data[start:r.at]


ITEMS = {2: (3, kind), 3: (0, record), 4: (1, node), 5: (2, edge), 6: (4, trash_entry)}


def snapshot(data):
    """Returns (lineage, sequence, chain, state hash as computed), and checks everything on the way."""
    assert data[:8] == b"HFKSNAP\0" and struct.unpack_from("<HHI", data, 8) == (1, 320, 0) and data[16] == 0
    assert h("holdfast kernel 1 snapshot", data[:288]) == data[288:320], "header checksum"
    assert not any(data[17:24]) and not any(data[144:224]) and not any(data[228:288]), "reserved"
    lineage, sequence, stated, chain = data[24:40], struct.unpack_from("<Q", data, 64)[0], data[80:112], data[112:144]
    collections, trashed, sections, opened, r = [], [], 0, None, Reader(data[320:])

    def close():
        if opened is None:
            return
        where, head, trees = opened
        digest = h("holdfast kernel 1 collection", value(head) + b"".join(rooted(tree) for tree in trees))
        if where is None:
            collections.append((key(Reader(head).name()), digest))
        else:
            trashed.append((key(where[:16]), h("holdfast kernel 1 trashed coll.", where + digest)))

    while r.left():
        start = r.at
        tag, flags = r.number("H"), r.number("H")
        payload = r.sized()
        framed = r.data[start:r.at]
        assert r.take(32) == h("holdfast kernel 1 snapshot", framed), "section checksum"
        assert flags == 0
        if tag in (1, 7, 255):
            close()
            opened = None
        if tag == 1:
            opened = (None, payload, [[], [], [], [], []])
        elif tag == 7:
            opened = (payload[:24], payload[24:], [[], [], [], [], []])
        elif tag == 255:
            assert struct.unpack_from("<QQQ", payload) == (sections, len(collections), len(trashed)), "end"
            assert payload[24:] == stated and not r.left()
        else:
            which, read = ITEMS[tag]
            items, last = Reader(payload), None
            while items.left():
                name, encoding = read(items)
                opened[2][which].append((key(name), value(encoding)))
        sections += 1
    state = struct.pack("<IQ", 1, sequence) + rooted(collections) + rooted(trashed)
    computed = h("holdfast kernel 1 state", state)
    assert computed == stated, "the state hash in the header is not the one of the content"
    return lineage, sequence, chain, computed


def log(data, lineage, sequence, chain):
    """Walks the records of a log; returns the last sequence and chain hash."""
    r = Reader(data)
    while r.left():
        start = r.at
        assert r.take(4) == b"HFWR"
        length = r.number("I")
        whole = data[start:start + length]
        assert len(whole) == length and crc32c(whole[12:]) == struct.unpack_from("<I", whole, 8)[0], "CRC"
        assert struct.unpack_from("<HH", whole, 12) == (1, 0) and whole[16:32] == lineage
        sequence += 1
        assert struct.unpack_from("<Q", whole, 32)[0] == sequence
        chain = h("holdfast kernel 1 wal chain", chain + whole[4:8] + whole[12:88] + whole[120:])
        assert chain == whole[88:120], "chain"
        r.at = start + length
    return sequence, chain


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    lines = (folder / "golden.txt").read_text().splitlines()
    expected = dict(line.split() for line in lines if not line.startswith("#"))
    lineage, sequence, chain, empty = snapshot((folder / "empty.hfs").read_bytes())
    start = lineage + struct.pack("<Q", sequence) + empty + ZERO
    assert chain == h("holdfast kernel 1 lineage", start), "the chain does not start where its lineage does"
    sequence, chain = log((folder / "golden.wal").read_bytes(), lineage, sequence, chain)
    _, full_sequence, _, state = snapshot((folder / "golden.hfs").read_bytes())
    found = {
        "lineage": lineage.hex(),
        "empty-state-hash": empty.hex(),
        "sequence": str(full_sequence),
        "state-hash": state.hex(),
        "chain-hash": chain.hex(),
    }
    for name, text in found.items():
        print(name, text, "ok" if expected[name] == text else f"DIFFERS from {expected[name]}")
    if found != expected or sequence != full_sequence:
        sys.exit(1)


if __name__ == "__main__":
    main()
