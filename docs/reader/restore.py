"""Writing a point to disk: trees, streams, the files of a kernel node.

What always holds: nothing stands under the final name before all of it was read and checked.
"""

import os
import sys

import records
from blake3 import blake3
from cards import Refused
from keys import H


def restore(vault, point, to):
    """Restores into `to`, which must not exist or be empty. Gives lines that say what was proven and what was left out."""
    if os.path.lexists(to) and (not os.path.isdir(to) or os.listdir(to)):
        raise Refused(f"{to} exists and is not an empty folder")
    partial = to.rstrip("/") + ".partial"
    if os.path.lexists(partial):
        raise Refused(f"{partial} is there: an earlier run was killed, or could not remove it. It may hold restored data, so it "
                      "is not touched: remove it, then start again")
    os.mkdir(partial, 0o700)
    try:
        said = {1: kernel, 2: tree, 3: postgres, 4: stream}[point.kind](vault, point.root, partial)
        if os.path.isdir(to):
            os.rmdir(to)
        os.rename(partial, to)
    except BaseException as error:
        discard(partial)
        if isinstance(error, (ValueError, OverflowError)):
            raise Refused(f"the point holds a value that no file here can have: {error}") from error
        raise
    return said


def discard(partial):
    """Removes what was restored so far, folders that are read-only too; what stays is named."""
    try:
        for folder, folders, _ in os.walk(partial):
            for name in folders:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        for folder, folders, files in os.walk(partial, topdown=False):
            for path in (os.path.join(folder, name) for name in folders + files):
                os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        os.rmdir(partial)
    except (OSError, KeyboardInterrupt) as error:
        print(f"! {partial} could not be removed ({error!r}). It holds restored data: remove it", file=sys.stderr)


def tree(vault, root, into):
    if H("holdfast tree root 1", records.encode(root["content"]["raw"])) != root["hash"]:
        raise Refused("the tree is not the one its root names")
    sys.setrecursionlimit(20_000)  # Folders may stand as deep as a path is long.
    said, links, counted, folders = [], {}, [0], []
    directory(vault, root["content"], os.fsencode(into), said, links, counted, folders)
    # At the very end: until then everything can be written and removed. What is inside stands before what it is in.
    for entry, path in folders:
        dress(entry, path, said)
    return [f"{counted[0]} entries; tree root {root['hash'].hex()} agrees"] + said


def directory(vault, content, into, said, links, counted, folders):
    entries = records.read(vault.read(content, 2), "Listing")["entries"]
    names = [entry["name"] for entry in entries]
    if names != sorted(set(names)) or any(n in (b"", b".", b"..") or b"/" in n or b"\0" in n for n in names):
        raise Refused("a listing with impossible names")
    for entry in entries:
        path = os.path.join(into, entry["name"])
        counted[0] += 1
        if entry["kind"] == 2 and entry["content"] is None or entry["kind"] == 3 and entry["target"] is None:
            raise Refused(f"{os.fsdecode(path)}: a folder without a listing, or a link without a target")
        first = links.get(entry["link_group"]) if entry["link_group"] else None
        if first:
            os.link(first, path, follow_symlinks=False)
            continue
        if entry["kind"] == 2:
            os.mkdir(path, 0o700)
            directory(vault, entry["content"], path, said, links, counted, folders)
            folders.append((entry, path))
            continue
        if not make(vault, entry, path):
            said.append(f"left out: {os.fsdecode(path)}")
            continue
        if entry["link_group"]:
            links[entry["link_group"]] = path
        dress(entry, path, said)


def make(vault, entry, path):
    kind = entry["kind"]
    if kind == 1:
        file(vault, entry, path)
    elif kind == 3:
        os.symlink(entry["target"], path)
    elif kind == 4:
        os.mkfifo(path, 0o600)
    elif kind in (5, 6) and os.geteuid() == 0:
        device = os.makedev(entry["device"] >> 32, entry["device"] & 0xFFFFFFFF)
        os.mknod(path, 0o600 | (0o020000 if kind == 5 else 0o060000), device)
    else:
        return False
    return True


def file(vault, entry, path):
    """The data of a file stands without its holes; here they are made again."""
    content, holes = entry["content"], entry["holes"]
    if (content["bytes"] if content else 0) + sum(hole["bytes"] for hole in holes) != entry["size"]:
        raise Refused(f"{os.fsdecode(path)}: data and holes do not add up to its size")
    end = 0
    for hole in holes:
        if hole["offset"] < end or hole["offset"] + hole["bytes"] > entry["size"]:
            raise Refused(f"{os.fsdecode(path)}: its holes are out of order, overlap or lie outside it")
        end = hole["offset"] + hole["bytes"]
    with open(path, "xb") as out:
        ahead = [(hole["offset"], hole["bytes"]) for hole in holes]
        for data in vault.stream(content, 1) if content else ():
            while data:
                while ahead and ahead[0][0] == out.tell():
                    out.seek(ahead.pop(0)[1], os.SEEK_CUR)
                room = ahead[0][0] - out.tell() if ahead else len(data)
                out.write(data[:room])
                data = data[room:]
        out.truncate(entry["size"])


def dress(entry, path, said):
    """Owner (as root only), attributes, mode and time, in the order that keeps them."""
    link = entry["kind"] == 3
    if os.geteuid() == 0:
        os.chown(path, entry["uid"], entry["gid"], follow_symlinks=False)
    for xattr in entry["xattrs"]:
        try:
            os.setxattr(path, xattr["name"], xattr["value"], follow_symlinks=False)
        except (OSError, ValueError) as error:
            said.append(f"attribute not set: {os.fsdecode(path)} {os.fsdecode(xattr['name'])}: {error}")
    if not link:
        os.chmod(path, entry["mode"] & 0o7777)
    time_ns = entry["mtime_s"] * 1_000_000_000 + entry["mtime_ns"]
    os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)


def stream(vault, root, into):
    name = os.path.basename(root["name"]) or "stream"
    hasher = blake3(derive_key_context="holdfast stream hash 1")
    with open(os.path.join(into, name), "xb") as out:
        for data in vault.stream(root["content"], 1):
            hasher.update(data)
            out.write(data)
    if hasher.digest() != root["hash"]:
        raise Refused("the stream does not hash to what was recorded")
    return [f"{name}: {root['content']['bytes']} bytes; stream hash {root['hash'].hex()} agrees"]


def postgres(vault, root, into):
    for name, content in (("backup_manifest", root["server_manifest"]), ("log", root["log"])):
        with open(os.path.join(into, name), "xb") as out:
            out.writelines(vault.stream(content, 1))
    os.mkdir(os.path.join(into, "files"))
    return tree(vault, {"content": root["files"], "hash": root["hash"]}, os.path.join(into, "files"))


def keyed(label, data):
    return blake3(data, key=label.ljust(32, b"\0")).digest()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


CRC = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    CRC.append(_byte)


def kernel(vault, root, into):
    """A snapshot and a segment of the log, as a node keeps them (kernel/FORMAT.md, sections 7 to 9)."""
    snapshot, log = (vault.read(root[name], 1) for name in ("snapshot", "log"))
    sequence, chain = root["snapshot_sequence"], snapshot[112:144]
    if snapshot[:8] != b"HFKSNAP\0" or keyed(b"holdfast kernel 1 snapshot", snapshot[:288]) != snapshot[288:320] \
            or snapshot[24:40] != root["lineage"] or snapshot[64:72] != sequence.to_bytes(8, "little"):
        raise Refused("the snapshot is not the one that the point names")
    segment = b"HFKWALSG" + b"\1\0\x80\0" + bytes(4) + root["lineage"] + (sequence + 1).to_bytes(8, "little") + bytes(8) + chain
    segment = segment.ljust(124, b"\0")
    segment += crc32c(segment).to_bytes(4, "little")
    at = 0
    while at < len(log):
        size = int.from_bytes(log[at + 4:at + 8], "little")
        record, sequence = log[at:at + size], sequence + 1
        chain = keyed(b"holdfast kernel 1 wal chain", chain + record[4:8] + record[12:88] + record[120:])
        if record[:4] != b"HFWR" or len(record) != size or size < 120 or record[88:120] != chain \
                or record[32:40] != sequence.to_bytes(8, "little"):
            raise Refused(f"the log breaks at sequence {sequence}")
        at += size
    if (sequence, chain) != (root["sequence"], root["chain_hash"]):
        raise Refused("the log does not end where the point says")
    if not log and snapshot[80:112] != root["state_hash"]:
        raise Refused("the snapshot has another state hash than the point")
    files = [(f"snap-{root['snapshot_sequence']:016x}.hfs", snapshot)]
    files += [(f"wal-{root['snapshot_sequence'] + 1:016x}.seg", segment + log)] if log else []
    for name, data in files:
        with open(os.path.join(into, name), "xb") as out:
            out.write(data)
    return [f"a node's files at sequence {sequence}; snapshot, log and chain agree",
            f"a node started on them must answer with state hash {root['state_hash'].hex()}"]
