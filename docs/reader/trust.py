"""Trust: which roots, operators and writers count (keys/FORMAT.md, sections 5 and 6; vault/FORMAT.md, section 15).

What always holds: nothing counts that does not lead to the root of the cards; a record that does not verify says
nothing and stops nothing; a former root's operator counts only if the record in force certifies its keys too.
"""

from cards import Refused
from keys import Envelope, certified, fingerprint, verifies


def former_roots(record):
    """The roots before a record's own, newest first, as far as each signed the one after it."""
    after, line = record["root_public"], []
    for cross in reversed(record["predecessors"]):
        after, signed = cross["root_public"], after
        if not verifies(after, b"holdfast cross signature 1", signed, cross["signatures"]):
            break
        line.append(after)
    return line


def check_of(root):
    return "-".join(f"{byte:02X}" for byte in fingerprint(root)[:3])


class Trust:
    def __init__(self, root, vault, warn):
        self.root, self.vault, self.warn = root, vault, warn
        # The root in force first, then those before it; the record in force; operators that it certifies.
        self.roots, self.in_force, self.operators, self.envelopes = [root], None, {}, {}

    def weigh(self, envelopes):
        """Finds the record in force and the roots that count, among all envelopes {hash: (envelope, bytes)}."""
        self.envelopes, self.roots, self.in_force, self.operators = envelopes, [self.root], None, {}
        counting = []
        for envelope in self.of_kind(1):
            its = envelope.body["root_public"]
            claims = [its, *(cross["root_public"] for cross in envelope.body["predecessors"])]
            if self.root not in claims or not self.holds(envelope, its, "a vault record"):
                continue
            line = former_roots(envelope.body)
            if self.root in (its, *line):
                counting.append((line, envelope))
        if not counting:
            return
        line, tip = max(counting, key=lambda found: len(found[0]))
        self.roots = [tip.body["root_public"], *line]
        rivals = [envelope for _, envelope in counting if envelope.body["root_public"] not in self.roots]
        if rivals:
            named = " and ".join(f"{check_of(one.body['root_public'])} in {one.place}" for one in (tip, rivals[0]))
            raise Refused(f"two keys claim to follow the one of these cards: {named}. Whoever holds the old seed can sign such "
                          "a claim, so neither is believed. Bring newer cards, or move the false record away")
        newest = [envelope for _, envelope in counting if envelope.body["root_public"] == self.roots[0]]
        self.in_force = max(newest, key=lambda envelope: (envelope.body["epoch"], envelope.hash)).body
        for raw in self.in_force["operators"]:
            try:
                operator = Envelope(raw, "the vault record in force")
            except Refused as error:
                self.warn(f"an operator in the vault record in force: {error}; it does not count")
                continue
            if operator.kind == 3 and self.holds(operator, self.roots[0], "an operator of the vault record in force"):
                self.operators.setdefault(operator.body["public_keys"], {})[operator.hash] = raw

    def of_kind(self, kind):
        return [envelope for envelope, _ in self.envelopes.values() if envelope.kind == kind and envelope.vault == self.vault]

    def holds(self, envelope, public, what):
        """Whether an envelope is signed by this key; if it only says so, people hear of it."""
        if envelope.signer != fingerprint(public):
            return False
        try:
            envelope.verify(public, self.vault, what)
        except Refused as error:
            self.warn(f"{envelope.place}: {error}; it does not count")
            return False
        return True

    def histories(self):
        """Key histories of all vault records that a root of the line signed."""
        for envelope in self.of_kind(1):
            root = envelope.body["root_public"]
            if root in self.roots and self.holds(envelope, root, "a vault record"):
                yield envelope.body["key_history"], envelope.place

    def prove(self, point):
        """Section 15, step 3, up to the pack that holds the point: the writer's certificate and its hash."""
        record, header = point.record, point.pack.header
        if (record["vault"], record["writer"], len(record["certificates"])) != (self.vault, header.writer, 2):
            raise Refused("it says it is of another vault or writer than its pack")
        envelope = Envelope(record["vault_record"])
        root = next((root for root in self.roots if fingerprint(root) == envelope.signer), None)
        if not root or envelope.kind != 1:
            raise Refused("it leans on a vault record of a root that these cards do not give")
        vault_record = envelope.verify(root, self.vault, "its vault record")
        floors = [one["floor_suite"] for one in (vault_record, self.in_force) if one]
        if vault_record["root_public"] != root or max(floors) > 1:
            raise Refused("its vault record does not allow this")
        writer, hash_, operator = self.chain(*record["certificates"], root)
        if writer["scope"] is None:
            raise Refused("the writer's certificate names no scope: the ids of its chunks cannot be checked")
        if header.certificate != hash_ or writer["subject"] != record["writer"]:
            raise Refused(f"{point.pack} is not of the writer that the point names")
        if not header.signed_by(writer["public_keys"]):
            raise Refused(f"{point.pack}: a signature of its header is wrong")
        for last in self.revocations({hash_}, writer, [self.roots[0], operator, *self.operators]):
            if (record["epoch"], record["sequence"]) > (last["epoch"], last["sequence"]):
                raise Refused(f"it was written after its writer's key was revoked: {last['reason']}")
        return writer, hash_

    def chain(self, operator, writer, root):
        """A writer's certificate, its hash and its operator's keys, the chain from this root verified."""
        (holder, hash_), (issuer, its) = certified(operator, writer, root, self.vault)
        public = issuer["public_keys"]
        if root != self.roots[0] and public not in self.operators:
            raise Refused("its operator was certified by a former root, and by the vault record in force it is not: "
                          "whoever holds a former seed can make one like it")
        for last in self.revocations({its, *self.operators.get(public, ())}, issuer, [self.roots[0]]):
            if holder["serial"] > last["sequence"]:
                raise Refused(f"its writer was certified after the operator's key was revoked: {last['reason']}")
        return holder, hash_, public

    def revocations(self, certificates, subject, signers):
        """Revocations of these certificates of one subject by any of these keys."""
        for envelope in self.of_kind(6):
            body = envelope.body
            if body["certificate"] in certificates and body["subject"] == subject["subject"] and \
                    any(self.holds(envelope, public, "a revocation") for public in signers):
                yield body

    def other_writer(self, certificate):
        """The certificate with this hash, of another writer of the vault than the point's; None if it is nowhere."""
        if certificate not in self.envelopes:
            return None
        envelope, raw = self.envelopes[certificate]
        if envelope.kind != 3 or envelope.vault != self.vault:
            raise Refused(f"{envelope.place} is no certificate of this vault")
        issued = [raw for public, known in self.operators.items() for raw in known.values()
                  if fingerprint(public) == envelope.body["issuer"]]
        issued += [its for operator, its in self.envelopes.values() if operator.kind == 3
                   and operator.body["role"] == 1 and fingerprint(operator.body["public_keys"]) == envelope.body["issuer"]]
        why = None
        for operator in issued:
            for root in self.roots:
                try:
                    return self.chain(operator, raw, root)[0]
                except Refused as error:
                    why = why or f"the certificates of the writer of a pack ({envelope.place}) do not lead to the root: {error}"
        if why:
            raise Refused(why)
        # Its operator's certificate is nowhere. The record names this very certificate, through the pack's header.
        return envelope.body
