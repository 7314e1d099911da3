"""Tests of the reader among things that are rotten, forged or in the way: what is not proven counts for nothing and
stops nothing."""

import functools
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import unittest.mock

import cards
import forge
import keys
import points
import records
import restore
import rotated
import shards
import tree
from bench import GOLDEN, HERE, Case, golden_card, read
from cards import Refused

OPERATOR, WRITER, OTHER = ((name.ljust(32), 1) for name in (b"an operator", b"a writer", b"another writer"))
NAME, OTHERS_NAME, SCOPE = b"w" * 16, b"o" * 16, b"s" * 16
DATA = b"forged " * 100


class Hostile(Case):
    def setUp(self):
        super().setUp()
        self.hand = [golden_card(number) for number in (1, 3, 4)]
        self.seed = next(iter(cards.seeds([cards.Card(path.read_text(), "") for path in self.hand])))
        self.pile = self.scratch / "pile"
        shutil.copytree(GOLDEN / "shards", self.pile)
        self.record = (GOLDEN / "shards/b/notes.old").read_bytes()
        self.vault = keys.Envelope(self.record).vault
        opened = points.Vault(self.seed, 1, shards.scan([GOLDEN / "shards"]), print)
        opened.open(self.vault)
        self.true = opened.points[0]
        self.kem = keys.from_seed(self.seed, b"reader kem", 1)
        self.id_key = keys.id_key(keys.from_seed(self.seed, b"dedup root", 1), SCOPE)

    def certify(self, root, operator=OPERATOR, serial=1):
        """A chain of an operator and a writer under some root."""
        return (forge.certificate(root, self.vault, 1, b"p" * 16, operator),
                forge.certificate(operator, self.vault, 2, NAME, WRITER, SCOPE, serial))

    def add_point(self, chain, name="forged", record=None, kem=None, **more):
        """A point in a pack of its own among the others."""
        data = forge.chunk(self.id_key, 1, DATA)
        cbor = forge.point(self.vault, NAME, chain, self.record if record is None else record, [data], name, **more)
        chunks = [data, forge.chunk(self.id_key, 4, cbor)]
        certificate = keys.H("holdfast envelope hash 1", chain[1])
        (self.pile / name).write_bytes(forge.pack(self.vault, kem or self.kem, NAME, certificate, WRITER, chunks)[0])
        return keys.H("holdfast point record 1", cbor)[:16].hex()

    def restores_the_true_one(self, *said, more=()):
        code, text = read([self.pile], self.hand, "--to", self.to, *more)
        self.assertEqual(code, 0, text)
        for part in said:
            self.assertIn(part, text)
        self.assertEqual(tree.describe(self.to / "shelf"), (GOLDEN / "expected.txt").read_text().splitlines())
        shutil.rmtree(self.to)

    def opened(self, seed=None, generation=1):
        self.said = []
        vault = points.Vault(seed or self.seed, generation, shards.scan([self.pile]), self.said.append)
        vault.open(self.vault)
        return vault

    def test_a_good_forgery(self):
        """The tools of these tests make what the reader takes, or what it refuses here would prove nothing."""
        name = self.add_point(self.certify((self.seed, 1)))
        code, text = read([self.pile], self.hand, "--point", name, "--to", self.to)
        self.assertEqual(code, 0, text)
        self.assertEqual((self.to / "forged").read_bytes(), DATA)

    def test_points_that_anyone_can_write(self):
        """The reader's public key is no secret: such points are newest, and list, choose and learn pass them by."""
        stranger = (b"a stranger".ljust(32), 1)
        garbage = self.garbage()
        named = [self.add_point(self.certify(stranger), "forged-1", history=garbage),
                 self.add_point((b"no", b"certificates"), "forged-2", b"no record", history=garbage),
                 self.add_point(self.true.record["certificates"], "forged-3", history=garbage)]
        nested = keys.Envelope(self.record).signed[:12] + (99).to_bytes(2, "little") + self.record[14:]
        named.append(self.add_point((nested, nested), "forged-4", nested))
        fields = records.decode(forge.point(self.vault, NAME, self.true.record["certificates"], self.record, []))[0]
        fields[8] = [4, True]
        odd = forge.chunk(self.id_key, 4, records.encode(fields))
        (self.pile / "odd").write_bytes(forge.pack(self.vault, self.kem, NAME, bytes(32), WRITER, [odd])[0])
        code, text = read([self.pile], self.hand, "--list")
        self.assertEqual((code, "Traceback" in text), (0, False), text)
        done = subprocess.run([sys.executable, HERE / "reader.py", "--list", "--shards", self.pile, "--card", *self.hand],
                              capture_output=True, text=True, timeout=300)
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()], [self.true.id.hex()])
        for name in named:
            self.assertIn(f"! point {name} of 'forged-", done.stderr)
        self.assertEqual(len(self.opened().recipients), 1)
        # A pack that does not open may hide a newer point; the forged ones hide nothing.
        self.refuse([self.pile], self.hand, "a newer point may be in a pack that cannot be read")
        self.restores_the_true_one("is not believed", more=("--point", self.true.id.hex()))
        self.restores_the_true_one("is not believed", more=("--older-is-fine",))
        (self.pile / "odd").unlink()
        self.restores_the_true_one("is not believed")
        self.refuse_point(named[0], "is not believed")

    def garbage(self):
        """A key history that does not open, is no sealed field, holds another key than it says, and one that opens."""
        own, info = keys.Recipient(self.kem).id, keys.frame(b"holdfast sealed 1 key history") + keys.frame(self.vault)
        stranger = keys.Recipient(b"k" * 32).id
        return [[7, 1, b"r" * 16, [own, bytes(1120), bytes(80)]], [8, 1, b"q" * 16, [own, b"short", b""]],
                [9, 1, b"t" * 16, [own, *rotated.seal(self.kem, info, bytes(64))]],
                [10, 1, stranger, [own, *rotated.seal(self.kem, info, b"k" * 64)]]]

    def test_garbage_in_a_history_that_counts(self):
        """A writer of the vault, or its root, can get an entry wrong: it is named and passed by."""
        fields = records.decode(self.record[80:-3373])[0]
        fields[11] = self.garbage()
        (self.pile / "b/garbage").write_bytes(rotated.envelope((self.seed, 1), 1, self.vault, fields))
        self.restores_the_true_one("generation 7 of its key history", "generation 8", "generation 9")
        self.assertIn(keys.Recipient(b"k" * 32).id, self.opened().recipients)
        (self.pile / "b/garbage").unlink()
        self.add_point(self.certify((self.seed, 1)), history=self.garbage())
        self.restores_the_true_one("generation 9 of its key history", more=("--point", self.true.id.hex()))

    def refuse_point(self, name, *said):
        code, text = read([self.pile], self.hand, "--point", name, "--to", self.to)
        self.assertEqual(code, 1, text)
        for part in said:
            self.assertIn(part, text)

    def test_another_vault_in_a_header(self):
        """Bare words name no vault; a header that names this reader and another vault takes nobody there."""
        (self.pile / "a/other").write_bytes(forge.pack(bytes(16), self.kem, NAME, bytes(32), WRITER, [])[0])
        (self.pile / "zz-other").write_bytes(forge.pack(b"\xff" * 16, self.kem, NAME, bytes(32), WRITER, [])[0])
        for number, path in enumerate(self.hand):
            words = " ".join(cards.WORDS[word] for word in cards.Card(path.read_text(), "").numbers)
            self.hand[number] = self.scratch / f"bare-{number}"
            self.hand[number].write_text(words)
        self.restores_the_true_one()

    def test_records_with_a_wrong_signature(self):
        """A vault record and a revocation that each have one flipped bit say nothing."""
        certificate = keys.Envelope(self.true.record["certificates"][1])
        body = [certificate.hash, certificate.body["subject"], 0, 0, "stolen", 1]
        revocation = bytearray(rotated.envelope((self.seed, 1), 6, self.vault, body))
        for at in (-1, -3373):
            revocation[at] ^= 1
            (self.pile / "revoked").write_bytes(revocation)
            self.restores_the_true_one("revoked: a revocation is not signed", more=("--point", self.true.id.hex()[:8]))
            revocation[at] ^= 1
        (self.pile / "revoked").write_bytes(rotated.envelope((b"a stranger".ljust(32), 1), 6, self.vault, body))
        self.restores_the_true_one()
        (self.pile / "copy").write_bytes(self.record[:-1] + bytes([self.record[-1] ^ 1]))
        self.restores_the_true_one("copy: a vault record is not signed")
        (self.pile / "revoked").write_bytes(revocation)
        self.refuse([self.pile], self.hand, "after its writer's key was revoked: stolen")

    def test_a_revoked_operator(self):
        chain = self.certify((self.seed, 1), serial=5)
        name = self.add_point(chain)
        for serial, stands in ((5, True), (4, False)):
            body = [keys.Envelope(chain[0]).hash, b"p" * 16, 1, serial, "stolen", 1]
            (self.pile / "revoked").write_bytes(rotated.envelope((self.seed, 1), 6, self.vault, body))
            found = [point.id.hex() for point in self.opened().points]
            self.assertEqual(name in found, stands)
            self.assertIn(self.true.id.hex(), found)

    def test_a_former_root(self):
        """Who holds the seed of before a rotation can certify an operator and a writer; they count no more."""
        name = self.add_point(self.certify((self.seed, 1)))
        seeds = [self.seed, b"second seed".ljust(32), b"third seed".ljust(32)]
        (self.pile / "b/notes.old").unlink()
        self.assertIn(name, [point.id.hex() for point in self.opened().points])
        (self.pile / "b/newer").write_bytes(rotated.vault_record(self.record, seeds))
        for seed, generation in ((seeds[2], 3), (seeds[0], 1)):
            vault = self.opened(seed, generation)
            self.assertEqual([point.id for point in vault.points], [self.true.id], self.said)
            self.assertEqual([point.id.hex() for point, _ in vault.doubted], [name])
            self.assertIn("certified by a former root", vault.doubted[0][1])
        # A second claim to follow the first root: no record of either line counts.
        (self.pile / "rival").write_bytes(rotated.vault_record(self.record, [self.seed, b"a thief's seed".ljust(32)]))
        self.assertRaisesRegex(Refused, "(?s)rival.*neither is believed|neither is believed.*rival", self.opened)
        # The newest cards are of one line, and are not disturbed.
        self.assertEqual([point.id for point in self.opened(seeds[2], 3).points], [self.true.id])

    def test_a_former_root_revokes_nobody(self):
        certificate = keys.Envelope(self.true.record["certificates"][1])
        body = [certificate.hash, certificate.body["subject"], 0, 0, "by a thief", 1]
        (self.pile / "revoked").write_bytes(rotated.envelope((self.seed, 1), 6, self.vault, body))
        self.assertEqual(self.opened().points, [])
        seeds = [self.seed, b"second seed".ljust(32)]
        (self.pile / "b/newer").write_bytes(rotated.vault_record(self.record, seeds))
        self.assertEqual([point.id for point in self.opened(seeds[1], 2).points], [self.true.id])

    def test_packs_of_other_keys(self):
        """With the cards of before a rotation what is newer does not open: the newest that does is not the newest."""
        later = keys.from_seed(b"second seed".ljust(32), b"reader kem", 2)
        self.add_point(self.certify((self.seed, 1)), "newer", kem=later)
        self.refuse([self.pile], self.hand, "sealed to keys which these cards do not give", "--older-is-fine")
        self.restores_the_true_one(more=("--older-is-fine",))
        self.restores_the_true_one(more=("--point", self.true.id.hex()))

    def test_a_pack_of_another_writer(self):
        """Its certificate, where it is found, must lead to the root; where it is not, the record's hash vouches."""
        root = (self.seed, 1)
        operator = forge.certificate(root, self.vault, 1, b"p" * 16, (b"its operator".ljust(32), 1))
        its = forge.certificate((b"its operator".ljust(32), 1), self.vault, 2, OTHERS_NAME, OTHER, SCOPE)
        data = forge.chunk(self.id_key, 1, DATA)
        spoilt = operator[:-1] + bytes([operator[-1] ^ 1])
        stranger = forge.certificate((b"a stranger".ljust(32), 1), self.vault, 1, b"p" * 16, (b"its operator".ljust(32), 1))
        for spoil, writer, beside, said in (
            (0, OTHERS_NAME, (operator, its), None), (0, OTHERS_NAME, (), None), (0, OTHERS_NAME, (its,), None),
            (0, OTHERS_NAME, (spoilt, operator, stranger, its), None),
            (0, OTHERS_NAME, (spoilt, its), "do not lead to the root"), (0, OTHERS_NAME, (stranger, its), "do not lead to the root"),
            (1, OTHERS_NAME, (operator, its), "a signature of its header"), (1, OTHERS_NAME, (its,), "a signature of its header"),
            (0, NAME, (operator, its), "not of the writer that its certificate names"),
        ):
            shutil.rmtree(self.pile)
            self.pile.mkdir()
            made, *named = forge.pack(self.vault, self.kem, writer, keys.H("holdfast envelope hash 1", its), OTHER, [data], spoil)
            (self.pile / "theirs").write_bytes(made)
            for number, raw in enumerate(beside):
                (self.pile / f"record-{number}").write_bytes(raw)
            chain = self.certify(root)
            cbor = forge.point(self.vault, NAME, chain, self.record, [data], packs=[named])
            made = forge.pack(self.vault, self.kem, NAME, keys.H("holdfast envelope hash 1", chain[1]), WRITER,
                              [forge.chunk(self.id_key, 4, cbor)])
            (self.pile / "point").write_bytes(made[0])
            with self.subTest(spoil=spoil, writer=writer, beside=len(beside), said=said):
                if said:
                    self.refuse([self.pile], self.hand, said)
                    continue
                code, text = read([self.pile], self.hand, "--to", self.to)
                self.assertEqual(code, 0, text)
                self.assertEqual((self.to / "forged").read_bytes(), DATA)
                shutil.rmtree(self.to)

    def test_a_small_chunk_that_would_grow(self):
        """A chunk of a few bytes that decompress to gigabytes is given up when it is longer than it says."""
        # A zstd frame without a length: blocks of 128 KiB of one byte, four bytes each.
        bomb = b"\x28\xb5\x2f\xfd\x00\x58" + b"\x02\x00\x10\x00" * 50_000
        decoder, grown = shards.zstandard.ZstdDecompressor().decompressobj(), []

        def decompress(piece):
            grown.append(len(decoder.decompress(piece)))
            return bytes(grown[-1])
        watched = unittest.mock.Mock(decompress=decompress, eof=False)
        pack = self.true.pack
        pack.table = [(bytes(32), 1000, 1, 1, 0, len(bomb))]
        with unittest.mock.patch.object(shards, "gcm_open", lambda *_: bomb), \
                unittest.mock.patch.object(shards.zstandard, "ZstdDecompressor", lambda: unittest.mock.Mock(
                    decompressobj=lambda: watched)):
            self.assertRaisesRegex(Refused, "another length", pack.chunk, b"", 0)
        self.assertLess(sum(grown), 1 << 26)

    def test_what_is_in_the_way(self):
        """Pipes, folders and sockets under a shard's name; files and folders that cannot be read."""
        os.mkfifo(self.pile / "a/pipe")
        (self.pile / "a/00.shard").mkdir()
        (self.pile / "a/loop").symlink_to("loop")
        (self.pile / "cut").write_bytes(b"HFSHARD1 and no more")
        (self.pile / "cut-record").write_bytes(b"HFRECRD1 and no more")
        self.restores_the_true_one("cut: a shard that is cut short", "cut-record: not a record")
        self.assertRaises(OSError, shards.open_file, self.pile / "a/pipe")

    def test_bad_sectors(self):
        """A file that cannot be opened, one that cannot be read on: complaints, as long as enough is left."""
        header = shards.Header((GOLDEN / "shards/a/x").read_bytes()[:8192])
        scan, opening = shards.scan, shards.open_file
        bad = self.pile / "bad"
        bad.write_bytes(bytes(header.data) + bytes(100))
        for calls in (0, 1):
            left = [calls]

            def fail(path, left=left):
                if str(path) == str(bad):
                    left[0] -= 1
                    if left[0] < 0:
                        raise OSError(5, "Input/output error", str(path))
                return opening(path)
            with unittest.mock.patch.object(shards, "open_file", fail):
                found = scan([self.pile])
                self.assertEqual([line for line in found[2] if "Input/output" in line] != [], calls == 0)
                vault = points.Vault(self.seed, 1, found, print)
                vault.open(self.vault)
                vault.believe(vault.points[0])
                restore.restore(vault, vault.points[0], str(self.to))
                pack = vault.points[0].pack
                self.assertEqual(str(bad) in map(str, pack.bad), calls == 1 and pack.places[header.index][0] == str(bad))
            shutil.rmtree(self.to)
        for path in ("a/x", "b/0042"):
            (self.pile / path).unlink()
        self.refuse([self.pile], self.hand, "good shards of the 3 that are needed", "bad")

    def test_an_unreadable_folder_is_named(self):
        (self.pile / "locked").mkdir()
        listing = os.scandir

        def fail(path):
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", str(path))
            return listing(path)
        with unittest.mock.patch.object(os, "scandir", fail):
            found = shards.scan([self.pile, self.pile / "locked"])
        self.assertEqual(len(found[2]), 2)
        self.assertIn("locked: Permission denied", found[2][0])
        self.assertEqual(len(found[0]), 1)

    def told(self, listings, stream):
        """A vault whose trees are told, and a point of the tree "top"."""
        class Told(str):
            def __getitem__(self, name):
                return {"raw": [], "bytes": 4}[name]
        kinds = {"mode": 0o555, "uid": 0, "gid": 0, "mtime_s": 1, "mtime_ns": 5, "xattrs": [], "link_group": 0, "target": None,
                 "holes": []}
        entries = {folder: [kinds | {"name": name, "kind": kind, "content": Told(content), "size": 4} for name, kind, content in listing]
                   for folder, listing in listings.items()}
        for patch in (unittest.mock.patch.object(restore.records, "read", lambda data, kind: {"entries": entries[data]}),
                      unittest.mock.patch.object(restore.records, "encode", lambda data: b"")):
            patch.start()
            self.addCleanup(patch.stop)
        vault = unittest.mock.Mock(read=lambda content, kind: str(content), stream=stream)
        return vault, unittest.mock.Mock(kind=2, root={"content": Told("top"), "hash": keys.H("holdfast tree root 1", b"")})

    def test_nothing_is_left_behind(self):
        """A folder without the right to write, and then a chunk that is missing; as nobody, whom modes do bind."""
        place, modes, left = pathlib.Path("."), [], []

        def stream(content, kind):
            modes.extend(path.stat().st_mode & 0o777 for path in place.glob("new.partial/a"))
            if not left:
                raise Refused("a chunk is missing")
            yield left.pop()
        vault, point = self.told({"top": [(b"a", 2, "inner"), (b"b", 1, "data")], "inner": [(b"secret", 1, "data")]}, stream)

        def work():
            for count in (1, 0):
                left[:] = [b"data"] * count
                self.assertRaisesRegex(Refused, "a chunk is missing", restore.restore, vault, point, str(place / "new"))
                self.assertEqual(list(place.iterdir()), [])
            # Modes and times stand in the end, and not before.
            left[:] = [b"data"] * 2
            restore.restore(vault, point, str(place / "new"))
            status = (place / "new/a").stat()
            self.assertEqual((status.st_mode & 0o777, status.st_mtime_ns), (0o555, 1_000_000_005))
            self.assertEqual(set(modes), {0o700})
            # What has its modes already is removed all the same; what cannot be is named, and in nobody's way later.
            restore.discard(str(place / "new"))
            self.assertEqual(list(place.iterdir()), [])
            with unittest.mock.patch.object(os, "rmdir", side_effect=OSError(5, "Input/output error")), \
                    unittest.mock.patch("sys.stderr", io.StringIO()) as said:
                self.assertRaisesRegex(Refused, "a chunk is missing", restore.restore, vault, point, str(place / "new"))
            self.assertIn("new.partial could not be removed", said.getvalue())
            self.assertRaisesRegex(Refused, "new.partial is there", restore.restore, vault, point, str(place / "new"))
        self.as_nobody(work)

    def test_a_deep_tree(self):
        depth = 990
        listings = {f"{at}": [(b"d", 2, f"{at + 1}")] for at in range(depth)} | {f"{depth}": []}
        listings["top"] = listings["0"]
        vault, point = self.told(listings, None)
        self.assertIn(f"{depth} entries", restore.restore(vault, point, str(self.to))[0])

    def as_nobody(self, work):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                self.to.mkdir(mode=0o777)
                self.to.chmod(0o777)
                os.chdir(self.to)
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                work()
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(code)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_a_stopped_restore(self):
        """A signal removes what was written so far."""
        code = ("import sys, time, reader, restore\n"
                "real = restore.file\n"
                "def slow(*a):\n    real(*a)\n    print('written', flush=True)\n    time.sleep(60)\n"
                "restore.file = slow\nreader.main()\n")
        command = [sys.executable, "-c", code, "--shards", self.pile, "--card", *self.hand, "--to", self.to]
        for number in (signal.SIGTERM, signal.SIGINT):
            # Who started this in the background may have had SIGINT ignored, which is inherited.
            heard = functools.partial(signal.signal, number, signal.SIG_DFL)
            with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  preexec_fn=heard) as running:
                self.assertEqual(running.stdout.readline(), "written\n")
                self.assertTrue((self.scratch / "restored.partial").exists())
                running.send_signal(number)
                said = running.communicate(timeout=60)[1]
            self.assertEqual(said, "reader: stopped. Nothing was restored.\n")
            self.assertEqual(list(self.scratch.glob("restored*")), [])

    def test_cards_that_are_none(self):
        """Lines with other values than there are, and other files: an error by name."""
        text = golden_card(1).read_text()
        for line, value in (("need", "three"), ("need", "9" * 5000), ("generation", "two"), ("generation", "99999999999"),
                            ("generation", "0"), ("set", "-1"), ("set", "\u0661"), ("vault", "no hex"), ("vault", "00"),
                            ("card", "1 of"), ("card", "\u0661 of 5")):
            lines = [f"{line}: {value}" if old.startswith(line + ":") else old for old in text.splitlines()]
            self.hand[0] = self.scratch / "a card"
            self.hand[0].write_text("\n".join(lines))
            with self.subTest(line=line, value=value[:20]):
                self.refuse([self.pile], self.hand, "a card: ")
        self.hand[0].write_bytes(b"\xff\xfe\x00h\x00o")
        self.refuse([self.pile], self.hand, "a card is not UTF-8")
        self.hand[0].write_text("1" * 5000 + " academic")
        self.refuse([self.pile], self.hand, "a card: word 1")

    def test_holes_that_cannot_be(self):
        class Fake:
            def stream(self, content, kind):
                yield b"head" * 2
        for holes in ([(6, 4), (2, 4)], [(2, 4), (5, 4)], [(4, 8), (4, 0), (3, 0)], [(100, 8)], [(1 << 63, 8)]):
            total = sum(size for _, size in holes)
            entry = {"content": {"bytes": 8}, "size": 8 + total, "holes": [{"offset": at, "bytes": size} for at, size in holes]}
            self.assertRaisesRegex(Refused, "holes are out of order", restore.file, Fake(), entry, self.to)
            self.assertFalse(self.to.exists())
