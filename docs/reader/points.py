"""Points: finding them in opened packs, believing them, reading their contents (vault/FORMAT.md, sections 9, 10, 15).

What always holds: nothing is read for a restore before the chain root, operator, writer, header was verified for
every pack of the point; every chunk is compared with its id.
"""

import keys
import records
from blake3 import blake3
from cards import Refused
from keys import Envelope, H, frame
from trust import Trust


class Point:
    """A point record and the pack that holds it."""

    def __init__(self, pack, cbor):
        self.pack, self.record = pack, records.read(cbor, "PointRecord")
        self.id = H("holdfast point record 1", cbor)[:16]
        self.kind, self.root = self.record["root"]

    def __str__(self):
        return f"{self.id.hex()}  {self.record['source']}  {self.record['host']}"


class Vault:
    """The packs of one vault, opened with what the cards give."""

    def __init__(self, seed, generation, found, warn):
        own = keys.Recipient(keys.from_seed(seed, b"reader kem", generation))
        self.recipients = {own.id: own}
        self.dedup_roots = [keys.from_seed(seed, b"dedup root", generation)]
        self.packs, self.envelopes = found[0], dict(found[1])
        self.root = keys.root_public(seed, generation)
        # Points that are proven; those that are not, and why; packs that do not open, and why; packs of other keys.
        self.points, self.doubted, self.broken, self.foreign = [], [], [], []
        self.tell, self.said = warn, set()

    def warn(self, text):
        """What was wrong with one record, said once."""
        if text not in self.said:
            self.said.add(text)
            self.tell(f"! {text}")

    def open(self, vault):
        """Opens all packs of the vault, again as long as a key history gives more keys."""
        self.vault, waiting = vault, [pack for pack in self.packs.values() if pack.header.vault == vault]
        self.trust = Trust(self.root, vault, self.warn)
        known, found = 0, []
        while known < len(self.recipients):
            known, rest = len(self.recipients), []
            for pack in waiting:
                try:
                    if not pack.open(self.recipients):
                        rest.append(pack)
                    elif pack.table and pack.table[-1][2] == 4:
                        found.append(Point(pack, pack.chunk(pack.body(), len(pack.table) - 1)))
                except Refused as error:
                    self.broken.append(str(error) if str(pack) in str(error) else f"{pack}: {error}")
            waiting = rest
            self.learn(found)
        self.foreign = waiting
        for point in found:
            try:
                self.trust.prove(point)
                self.points.append(point)
            except Refused as error:
                self.doubted.append((point, str(error)))

    def learn(self, found):
        """Roots that count, and older generations' keys. Anyone can seal a pack to the reader: what a point says
        counts once it is proven, what a vault record says once a root of the line signed it."""
        for point in found:
            for raw in (point.record["vault_record"], *point.record["certificates"]):
                try:
                    envelope = Envelope(raw, str(point.pack))
                    self.envelopes.setdefault(envelope.hash, (envelope, raw))
                except Refused:
                    continue  # The point will not be proven, which is said then.
        self.trust.weigh(self.envelopes)
        for entries, place in self.trust.histories():
            self.take_history(entries, place)
        for point in found:
            try:
                self.trust.prove(point)
            except Refused:
                continue
            self.take_history(point.record["key_history"], f"point {point.id.hex()}")

    def take_history(self, entries, place):
        for entry in entries:
            opener = self.recipients.get(entry["seed"]["recipient"])
            if entry["role"] != 1 or not opener or entry["recipient"] in self.recipients:
                continue
            info = frame(b"holdfast sealed 1 key history") + frame(self.vault)
            try:
                # The KEM seed of the older reader and, behind it, the older dedup root.
                secrets = opener.open(entry["seed"]["enc"], entry["seed"]["ciphertext"], info)
                older = keys.Recipient(secrets[:32])
                if older.id != entry["recipient"] or len(secrets) not in (32, 64):
                    raise Refused("a key history holds another key than it says")
            except Refused as error:
                self.warn(f"{place}, generation {entry['generation']} of its key history: {error}; it does not count")
                continue
            self.recipients[older.id] = older
            if secrets[32:]:
                self.dedup_roots.append(secrets[32:])

    def believe(self, point):
        """Section 15, step 3. Afterwards `self.index` says where each chunk of the point is."""
        try:
            self.writer, certificate = self.trust.prove(point)
        except Refused as error:
            raise Refused(f"point {point.id.hex()} is not believed: {error}") from error
        self.id_keys = [keys.id_key(root, self.writer["scope"]) for root in self.dedup_roots]
        self.index, self.bodies = {}, {}
        self.admit(point.pack)
        for reference in point.record["packs"]:
            self.admit_listed(reference, certificate)
        if point.record["packs_more"]:
            for reference in records.read(self.read(point.record["packs_more"], 1), "[PackRef]"):
                self.admit_listed(reference, certificate)

    def admit_listed(self, reference, certificate):
        pack = self.packs.get((reference["pack"], reference["header"]))
        if not pack:
            raise Refused(f"pack {reference['pack'].hex()}: no shard of it is here")
        if pack.table is None:
            pack.body()  # Says what is missing.
            raise Refused(f"{pack} does not open with these cards")
        its = pack.header.certificate
        writer = self.writer if its == certificate else self.trust.other_writer(its)
        # A pack of another writer whose certificate is nowhere: its hash stands in the verified record.
        if writer and writer["subject"] != pack.header.writer:
            raise Refused(f"{pack} is not of the writer that its certificate names")
        if writer and not pack.header.signed_by(writer["public_keys"]):
            raise Refused(f"{pack}: a signature of its header is wrong")
        self.admit(pack)

    def admit(self, pack):
        for number, entry in enumerate(pack.table):
            self.index.setdefault(entry[0], []).append((pack, number))

    def chunk(self, reference, kind):
        for pack, number in self.index.get(reference["id"], ()):
            if pack not in self.bodies:
                while len(self.bodies) > 3:
                    self.bodies.pop(next(iter(self.bodies)))
                self.bodies[pack] = pack.body()
            if pack.table[number][1:3] != (reference["bytes"], kind):
                raise Refused(f"{pack}: chunk {number} is not what refers to it says")
            data = pack.chunk(self.bodies[pack], number)
            # A writer keeps its scope's id key when the seed changes, so any generation's may be the one.
            if any(blake3(data, key=key).digest() == reference["id"] for key in self.id_keys):
                return data
            raise Refused(f"{pack}: chunk {number} is not the one its id names")
        raise Refused(f"chunk {reference['id'].hex()} is in no pack of the point")

    def stream(self, content, kind):
        """The bytes of a content, chunk by chunk."""
        if content["depth"] > 3 or len(content["chunks"]) > 4096:
            raise Refused("a content deeper or wider than there are")
        total = 0
        for data in self.walk(content["chunks"], content["depth"], kind):
            total += len(data)
            yield data
        if total != content["bytes"]:
            raise Refused(f"a content of {total} bytes that should have {content['bytes']}")

    def walk(self, references, depth, kind):
        for reference in references:
            if depth == 0:
                yield self.chunk(reference, kind)
            else:
                inner = records.read(self.chunk(reference, 3), "ChunkList")["chunks"]
                if len(inner) > 4096:
                    raise Refused("a list wider than there are")
                yield from self.walk(inner, depth - 1, kind)

    def read(self, content, kind):
        return b"".join(self.stream(content, kind))
