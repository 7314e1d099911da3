"""Points: finding them in opened packs, believing them, reading their contents (vault/FORMAT.md, sections 9, 10, 15).

What always holds: nothing is read for a restore before the chain root, operator, writer, header was verified for
every pack of the point; every chunk is compared with its id.
"""

import keys
import records
from blake3 import blake3
from cards import Refused
from keys import Envelope, H, certified, fingerprint, frame, verifies


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
        self.warn = warn
        own = keys.Recipient(keys.from_seed(seed, b"reader kem", generation))
        self.recipients = {own.id: own}
        self.dedup_roots = [keys.from_seed(seed, b"dedup root", generation)]
        self.packs, self.envelopes, _ = found
        self.root = keys.root_public(seed, generation)
        self.points, self.broken, self.foreign = [], [], []

    def open(self, vault):
        """Opens all packs of the vault, again as long as a key history gives more keys."""
        self.vault, waiting = vault, [pack for pack in self.packs.values() if pack.header.vault == vault]
        known = 0
        while known < len(self.recipients):
            known, rest = len(self.recipients), []
            for pack in waiting:
                try:
                    if not pack.open(self.recipients):
                        rest.append(pack)
                    elif pack.table and pack.table[-1][2] == 4:
                        body = pack.body()
                        self.points.append(Point(pack, pack.chunk(body, len(pack.table) - 1)))
                except Refused as error:
                    self.broken.append(str(error))
            waiting = rest
            self.learn()
        self.foreign = waiting

    def learn(self):
        """Trusted roots, from the derived one backwards, and older generations' keys."""
        for point in self.points:
            for raw in (point.record["vault_record"], *point.record["certificates"]):
                envelope = Envelope(raw)
                self.envelopes[envelope.hash] = (envelope, raw)
        self.roots, self.vault_record, more = [self.root], None, True
        candidates = [envelope for envelope, _ in self.envelopes.values() if envelope.kind == 1]
        while more:
            more = False
            for envelope in list(candidates):
                root = next((root for root in self.roots if fingerprint(root) == envelope.signer), None)
                if not root:
                    continue
                candidates.remove(envelope)
                try:
                    record = envelope.verify(root, self.vault, "a vault record")
                except Refused as error:
                    self.warn(f"! {error}; it does not count")
                    continue
                if record["root_public"] != root:
                    continue
                if not self.vault_record or record["epoch"] > self.vault_record["epoch"]:
                    self.vault_record = record
                # Each former root signs the one after it, the last this one.
                after = root
                for cross in reversed(record["predecessors"]):
                    former = cross["root_public"]
                    if not verifies(former, b"holdfast cross signature 1", after, cross["signatures"]):
                        break
                    after = former
                    if former not in self.roots:
                        self.roots.append(former)
                        more = True
                self.take_history(record["key_history"])
        for point in self.points:
            self.take_history(point.record["key_history"])

    def take_history(self, entries):
        for entry in entries:
            opener = self.recipients.get(entry["seed"]["recipient"])
            if entry["role"] == 1 and opener and entry["recipient"] not in self.recipients:
                info = frame(b"holdfast sealed 1 key history") + frame(self.vault)
                # The KEM seed of the older reader and, behind it, the older dedup root.
                secrets = opener.open(entry["seed"]["enc"], entry["seed"]["ciphertext"], info)
                older = keys.Recipient(secrets[:32])
                if older.id != entry["recipient"] or len(secrets) not in (32, 64):
                    raise Refused("a key history holds another key than it says")
                self.recipients[older.id] = older
                if secrets[32:]:
                    self.dedup_roots.append(secrets[32:])

    def believe(self, point):
        """Section 15, step 3. Afterwards `self.index` says where each chunk of the point is."""
        record, header = point.record, point.pack.header
        if record["vault"] != self.vault or (record["writer"], len(record["certificates"])) != (header.writer, 2):
            raise Refused(f"point {point.id.hex()} says it is of another vault or writer than its pack")
        envelope = Envelope(record["vault_record"])
        root = next((root for root in self.roots if fingerprint(root) == envelope.signer), None)
        if not root:
            raise Refused(f"point {point.id.hex()} leans on a vault record of a root that these cards do not give")
        vault_record = envelope.verify(root, self.vault, "the point's vault record")
        if vault_record["root_public"] != root or max(vault_record["floor_suite"], self.vault_record["floor_suite"]) > 1:
            raise Refused("the vault record does not allow this")
        operator, writer = record["certificates"]
        (self.writer, hash_), (self.operator, _) = certified(operator, writer, root, self.vault)
        if self.writer["scope"] is None:
            raise Refused("the writer's certificate names no scope: the ids of its chunks cannot be checked")
        self.id_keys = [keys.id_key(root, self.writer["scope"]) for root in self.dedup_roots]
        if header.certificate != hash_ or self.writer["subject"] != record["writer"]:
            raise Refused(f"{point.pack} is not of the writer that the point names")
        if not header.signed_by(self.writer["public_keys"]):
            raise Refused(f"{point.pack}: a signature of its header is wrong")
        self.check_revoked(hash_, record)
        self.index, self.bodies = {}, {}
        self.admit(point.pack)
        listed = record["packs"]
        for reference in listed:
            self.admit_listed(reference, hash_)
        if record["packs_more"]:
            for reference in records.read(self.read(record["packs_more"], 1), "[PackRef]"):
                self.admit_listed(reference, hash_)

    def check_revoked(self, certificate, record):
        """What was signed after a revocation's last good position does not count."""
        for envelope, _ in self.envelopes.values():
            body = envelope.body
            if envelope.kind != 6 or body["certificate"] != certificate:
                continue
            signers = [public for public in (*self.roots, self.operator["public_keys"]) if fingerprint(public) == envelope.signer]
            if signers and envelope.verify(signers[0], self.vault, "a revocation") and \
                    (record["epoch"], record["sequence"]) > (body["epoch"], body["sequence"]):
                raise Refused(f"the point was written after its writer's key was revoked: {body['reason']}")

    def admit_listed(self, reference, certificate):
        pack = self.packs.get((reference["pack"], reference["header"]))
        if not pack:
            raise Refused(f"pack {reference['pack'].hex()}: no shard of it is here")
        if pack.table is None:
            pack.body()  # Says what is missing.
            raise Refused(f"{pack} does not open with these cards")
        its = pack.header.certificate
        public = self.writer["public_keys"] if its == certificate else self.public_of(its)
        # A pack of another writer whose certificate is nowhere: its hash stands in the verified record.
        if public and not pack.header.signed_by(public):
            raise Refused(f"{pack}: a signature of its header is wrong")
        self.admit(pack)

    def public_of(self, certificate):
        """The verifying keys of another writer of the vault, if its certificates are known."""
        if certificate not in self.envelopes:
            return None
        for envelope, operator in list(self.envelopes.values()):
            if envelope.kind == 3 and envelope.body["role"] == 1:
                for root in self.roots:
                    try:
                        return certified(operator, self.envelopes[certificate][1], root, self.vault)[0][0]["public_keys"]
                    except Refused:
                        continue
        return None

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
