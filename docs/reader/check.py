#!/usr/bin/env python3
"""Tests of the reader: the golden vault, and vaults that the program makes here and now.

    check.py PROGRAM       the `holdfast` to make vaults with; HOLDFAST_SEED changes the choices

Run by tests/readers, which installs what it needs.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import unittest

import shamir_mnemonic

import cards
import keys
import points
import reader
import records
import restore
import rotated
import shards
import tree
from bench import ELSEWHERE, GOLDEN, SEED, Case, golden_card, read
from cards import Refused
from hostile import Hostile

__all__ = ["Hostile"]
PROGRAM = ""


def words_of(card):
    return " ".join(cards.WORDS[number] for number in card.numbers)


def forged(path, change):
    """A card whose share was changed and whose checksum fits again."""
    card = cards.Card(path.read_text(), str(path))
    numbers = change(card.numbers[:-3])
    state = cards.checksum([*numbers, 0, 0, 0], card.extendable) ^ 1
    numbers += [state >> 20, state >> 10 & 1023, state & 1023]
    lines = [line for line in path.read_text().splitlines() if ":" in line or line == "holdfast card"]
    return "\n".join([*lines, " ".join(cards.WORDS[number] for number in numbers)]) + "\n"


class Golden(Case):
    """Three shards of five, two of them parity, and five cards of which three are enough; checked in."""

    def altered(self, change, which=("a/holiday.jpg", "a/x", "b/0042")):
        folder = self.scratch / "shards"
        shutil.copytree(GOLDEN / "shards", folder)
        for name in which:
            data = bytearray((folder / name).read_bytes())
            cut = change(data)
            (folder / name).write_bytes(data if cut is None else cut)
        return folder

    def hand(self, *numbers):
        return [golden_card(number) for number in numbers or (1, 3, 4)]

    def test_restores(self):
        expected = (GOLDEN / "expected.txt").read_text().splitlines()
        for plain_python in (False, True):
            to = self.scratch / f"restored-{plain_python}"
            code, text = read([GOLDEN / "shards"], self.hand(), "--to", to, plain_python=plain_python)
            self.assertEqual(code, 0, text)
            self.assertEqual(tree.describe(to / "shelf"), expected)

    def test_the_programs_own_golden_vault(self):
        hand = [ELSEWHERE / "keys" / f"card-{number}.txt" for number in (2, 3, 5)]
        code, text = read([ELSEWHERE / "p2", ELSEWHERE / "p4", ELSEWHERE / "p5"], hand, "--to", self.to)
        self.assertEqual(code, 0, text)
        lines = b"".join(b"%d bottles of water on the shelf\n" % line for line in range(4000))
        self.assertEqual((self.to / "bytes").read_bytes(), lines + keys.blake3(b"golden").digest(60_000))

    def test_every_three_cards_and_no_two(self):
        texts = [cards.Card(golden_card(number).read_text(), f"{number}") for number in range(1, 6)]
        found = set()
        for three in itertools.combinations(texts, 3):
            found.update(cards.seeds(list(three)))
        self.assertEqual(len(found), 1)
        for two in itertools.combinations(texts, 2):
            self.assertRaises(Refused, cards.seeds, list(two))
        self.assertEqual(set(cards.seeds(texts)), found)

    def test_bare_words(self):
        hand = []
        for number in (2, 4, 5):
            hand.append(self.scratch / f"{number}")
            hand[-1].write_text(" ".join(word[:4] for word in words_of(cards.Card(golden_card(number).read_text(), "")).split()))
        code, text = read([GOLDEN / "shards"], hand, "--list")
        self.assertEqual(code, 0, text)
        self.assertIn("shelf", text)

    def test_another_tool(self):
        """shamir-mnemonic recovers the seed of our cards, and we that of its shares."""
        ours = [cards.Card(golden_card(number).read_text(), "") for number in (1, 2, 5)]
        seed = shamir_mnemonic.combine_mnemonics([words_of(card) for card in ours], b"")
        self.assertEqual([seed], list(cards.seeds(ours)))
        for extendable in (False, True):
            theirs = shamir_mnemonic.generate_mnemonics(1, [(3, 5)], seed, b"", extendable, 1)[0]
            self.assertEqual([seed], list(cards.seeds([cards.Card(words, "") for words in theirs[2:]])))

    def test_too_few_or_the_same_cards(self):
        self.refuse([GOLDEN / "shards"], self.hand(1, 2), "2 different cards; 3 are needed")
        self.refuse([GOLDEN / "shards"], self.hand(1, 2, 2), "2 different cards; 3 are needed")

    def test_a_card_of_another_set(self):
        hand = [*self.hand(1, 2), ELSEWHERE / "keys/card-3.txt"]
        self.refuse([GOLDEN / "shards"], hand, "of another vault", "card-3.txt")
        bare = self.scratch / "bare"
        bare.write_text(words_of(cards.Card((ELSEWHERE / "keys/card-3.txt").read_text(), "")))
        self.refuse([GOLDEN / "shards"], [*self.hand(1, 2), bare], "bare", "of another set")

    def test_cards_of_another_vault(self):
        hand = [ELSEWHERE / "keys" / f"card-{number}.txt" for number in (1, 2, 3)]
        self.refuse([GOLDEN / "shards"], hand, "no point")
        for card in hand:
            (self.scratch / card.name).write_text(words_of(cards.Card(card.read_text(), "")))
        self.refuse([GOLDEN / "shards"], [self.scratch / card.name for card in hand], "not this vault's")

    def test_cards_that_name_another_root(self):
        hand = []
        for number in (1, 2, 3):
            hand.append(self.scratch / f"{number}")
            text = golden_card(number).read_text()
            at = text.index("key check: ") + 11
            hand[-1].write_text(text[:at] + "00-00-00" + text[at + 8:])
        self.refuse([GOLDEN / "shards"], hand, "its root is not the one on the cards")

    def test_a_misread_word(self):
        card, text = self.scratch / "card", golden_card(3).read_text()
        word = cards.WORDS[cards.Card(text, "").numbers[7]]
        for other, said in (("academic", "checksum"), ("zzz", "word 8 ('zzz') is not in the list")):
            card.write_text(text.replace(word, other))
            self.refuse([GOLDEN / "shards"], [*self.hand(1, 2), card], said)

    def test_a_forged_card_is_named(self):
        card = self.scratch / "forged"
        card.write_text(forged(golden_card(4), lambda numbers: [*numbers[:9], numbers[9] ^ 5, *numbers[10:]]))
        self.refuse([GOLDEN / "shards"], [*self.hand(1, 2), card], "forged is not the card that the vault record names")
        alone = self.altered(lambda data: b"", ("b/notes.old",))
        self.refuse([alone], [*self.hand(1, 2), card], "only the vault record would tell")
        shutil.rmtree(alone)
        # With a spare card the others do.
        code, text = read([GOLDEN / "shards"], [*self.hand(1, 2, 3), card], "--list")
        self.assertEqual(code, 0, text)

    def test_damage_beyond_repair(self):
        def flip(data):
            data[8192 + 30_000] ^= 1
        self.refuse([self.altered(flip, ("a/x",))], self.hand(), "2 good shards of the 3 that are needed", "a/x")

    def test_a_cut_shard(self):
        self.refuse([self.altered(lambda data: data[:50_000], ("b/0042",))], self.hand(), "2 good shards", "b/0042")

    def test_a_missing_shard(self):
        self.refuse([GOLDEN / "shards/b"], self.hand(), "1 good shards of the 3")

    def test_one_other_header(self):
        def flip(data):
            data[60] ^= 1
        self.refuse([self.altered(flip, ("a/x",))], self.hand(), "good shards of the 3")

    def test_both_signatures_count(self):
        for at, what in ((4720, "Ed25519"), (4784 + 1000, "ML-DSA")):
            with self.subTest(what):
                def flip(data, at=at):
                    data[at] ^= 1
                for plain_python in ("", "1"):
                    os.environ["READER_PLAIN_PYTHON"] = plain_python
                    folder = self.altered(flip)
                    self.refuse([folder], self.hand(), "a signature of its header is wrong")
                    shutil.rmtree(folder)
        os.environ.pop("READER_PLAIN_PYTHON")

    def test_a_fitting_forgery(self):
        """A payload altered by someone who fits the root to it: only the signatures tell."""
        header = shards.Header((GOLDEN / "shards/a/x").read_bytes()[:8192])
        data = bytearray((GOLDEN / "shards/a/x").read_bytes())
        data[8192 + 60_000] ^= 1
        root = shards.merkle_root(bytes(data[8192:8192 + 65536]))

        def fit(other):
            other[3824 + 32 * header.index:3856 + 32 * header.index] = root
            if other[8176] == header.index:
                other[8192 + 60_000] ^= 1
        self.refuse([self.altered(fit)], self.hand(), "pack")

    def test_header_bits(self):
        """One flipped bit, the same in all shards, anywhere in what is signed or fixed: never a restore."""
        choose = random.Random(SEED)
        places = [0, 12, 64, 80, 96, 256, 1380, 3760, 3792, 3824, 4600, 4719, 8100, 8180] + [choose.randrange(8176) for _ in range(12)]
        for at in places:
            with self.subTest(at=at, seed=SEED):
                def flip(data, at=at):
                    data[at] ^= 1 << at % 8
                folder = self.altered(flip)
                self.refuse([folder], self.hand())
                shutil.rmtree(folder)

    def test_after_rotations(self):
        """The cards of a third generation open the packs of the first through the key history of its vault record."""
        first = next(iter(cards.seeds([cards.Card(path.read_text(), "") for path in self.hand()])))
        seeds = [first, b"second seed".ljust(32), b"third seed".ljust(32)]
        former = (GOLDEN / "shards/b/notes.old").read_bytes()
        head = [line for line in golden_card(1).read_text().splitlines() if ": " in line]
        check = "-".join(f"{byte:02X}" for byte in keys.fingerprint(keys.root_public(seeds[2], 3))[:3])
        hand = []
        for number, words in enumerate(shamir_mnemonic.generate_mnemonics(1, [(3, 5)], seeds[2], b"", False, 1)[0], 1):
            said = {"generation": "3", "set": "2", "key check": check, "card": f"{number} of 5"}
            lines = [f"{line.split(':')[0]}: {said.get(line.split(':')[0], line.split(': ')[1])}" for line in head]
            hand.append(self.scratch / f"new-{number}")
            hand[-1].write_text("\n".join(["holdfast card", *lines, words]))
        record = rotated.vault_record(former, seeds)
        folder = self.altered(lambda data: record, ("b/notes.old",))
        code, text = read([folder], hand[1:4], "--to", self.to)
        self.assertEqual(code, 0, text)
        self.assertEqual(tree.describe(self.to / "shelf"), (GOLDEN / "expected.txt").read_text().splitlines())
        shutil.rmtree(self.to)
        # Without the record, with another's cross signature, or with one that the new root did not sign: nothing.
        self.refuse([GOLDEN / "shards/a", GOLDEN / "shards/b"], hand[1:4], "no point")
        imposter = rotated.vault_record(former, [b"not the first".ljust(32), *seeds[1:]])
        (folder / "b/notes.old").write_bytes(imposter)
        self.refuse([folder], hand[1:4])
        spoiled = rotated.vault_record(former, seeds, lambda cross: bytes([cross[0] ^ 1]) + cross[1:])
        (folder / "b/notes.old").write_bytes(spoiled)
        self.refuse([folder], hand[1:4], "a root that these cards do not give")
        (folder / "b/notes.old").write_bytes(record[:-9] + bytes([record[-9] ^ 1]) + record[-8:])
        self.refuse([folder], hand[1:4], "a signature is wrong")
        # The old cards open what is old, as before.
        code, text = read([GOLDEN / "shards"], self.hand(), "--list")
        self.assertEqual(code, 0, text)

    def test_guards_behind_the_signatures(self):
        """What a writer with good keys could still get wrong."""
        hand = [cards.Card(path.read_text(), "") for path in self.hand()]

        def opened():
            vault = reader.open_vault(hand, shards.scan([GOLDEN / "shards"]))
            vault.believe(vault.points[0])
            return vault, vault.points[0]

        vault, point = opened()
        vault.id_keys = [bytes(32)]
        self.assertRaisesRegex(Refused, "not the one its id names", restore.restore, vault, point, str(self.to))
        vault, point = opened()
        point.root["hash"] = bytes(32)
        self.assertRaisesRegex(Refused, "not the one its root names", restore.restore, vault, point, str(self.to))
        vault, point = opened()
        point.root["content"]["bytes"] += 1
        self.assertRaisesRegex(Refused, "that should have", restore.restore, vault, point, str(self.to))
        pack = point.pack
        pack.header.commitment = bytes(32)
        self.assertRaisesRegex(Refused, "commits to", pack.open, vault.recipients)
        for certificates, said in (
            (point.record["certificates"][::-1], "is not signed by"),
            (point.record["certificates"][:1] * 2, "is not signed by"),
        ):
            self.assertRaisesRegex(Refused, said, keys.certified, *certificates, vault.root, vault.vault)
        self.assertRaisesRegex(Refused, "another vault", keys.certified, *point.record["certificates"], vault.root, bytes(16))
        self.assertEqual(list(self.scratch.iterdir()), [])

    def test_contents_of_lists(self):
        """A content too wide for one list: chunks, lists of them, a list of those."""
        chunks = {}

        def put(kind, data):
            name = keys.blake3(bytes([kind]) + data).digest()
            chunks[name, kind] = data
            return [name, len(data)]
        pieces = [b"%d," % number for number in range(100)]
        level = [put(1, piece) for piece in pieces]
        for _ in range(2):
            level = [put(3, records.encode([level[at:at + 7]])) for at in range(0, len(level), 7)]
        whole = b"".join(pieces)
        content = records.fit([len(whole), 2, level], "Content")
        vault = points.Vault.__new__(points.Vault)
        vault.chunk = lambda reference, kind: chunks[reference["id"], kind]
        self.assertEqual(vault.read(content, 1), whole)
        for wrong in ({"bytes": len(whole) + 1}, {"depth": 4}, {"chunks": content["chunks"] * 3000}):
            self.assertRaises(Refused, vault.read, content | wrong, 1)

    def test_records_have_one_spelling(self):
        good = records.encode([[[b"\1" * 32, 7]]])
        self.assertEqual(records.read(good, "ChunkList")["chunks"][0]["bytes"], 7)
        for bad in (good + b"\0", good[:-1], good[:-1] + b"\x18\x07", good.replace(b"\x81\x82", b"\x9f\x82") + b"\xff",
                    records.encode([[[b"\1" * 31, 7]]]), records.encode([[[b"\1" * 32, 1 << 32]]]),
                    records.encode([[[b"\1" * 32, 7, None]]]), records.encode([[], []]), b"\x9b" + b"\xff" * 8, b"\x81" * 99):
            self.assertRaises(Refused, records.read, bad, "ChunkList")

    def test_holes(self):
        class Fake:
            def stream(self, content, kind):
                yield from (b"head", b"midtail")
        entry = {"content": {"bytes": 11}, "size": 40,
                 "holes": [{"offset": 4, "bytes": 10}, {"offset": 17, "bytes": 9}, {"offset": 30, "bytes": 10}]}
        restore.file(Fake(), entry, self.to)
        self.assertEqual(self.to.read_bytes(), b"head" + bytes(10) + b"mid" + bytes(9) + b"tail" + bytes(10))
        entry["size"] = 41
        self.assertRaises(Refused, restore.file, Fake(), entry, self.scratch / "other")


class Made(Case):
    """A vault of 5 of 9 that the program makes now: any five shards of each pack, under random names."""

    def setUp(self):
        super().setUp()
        print(f"HOLDFAST_SEED={SEED}")
        self.choose = random.Random(SEED)
        self.vault, self.home = self.scratch / "vault", self.scratch / "home"
        self.home.mkdir()
        self.say("vault", "init", "--local", self.vault)

    def say(self, *arguments, code=0, home=None):
        home = home or self.home
        environment = os.environ | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
        done = subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=300,
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def deal(self, name="cards"):
        folder = self.scratch / name
        self.say("keys", "split", "--cards", "5", "--need", "3", "--cards-dir", folder)
        return self.choose.sample(sorted(folder.glob("*.txt")), 3)

    def pile(self, first=5, damaged=0):
        """Five shards of each pack (of the first one as many as said, some with a flipped bit) in two folders, under
        random names."""
        folders = [self.scratch / name for name in ("pile-1", "pile-2")]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "deep").mkdir(parents=True)
        packs = {}
        for path in sorted(self.vault.glob("p*/shards/*/*/*")):
            packs.setdefault(path.stem, []).append(path)
        for number, shards_of_pack in enumerate(packs.values()):
            self.assertEqual(len(shards_of_pack), 9)
            for which, path in enumerate(self.choose.sample(shards_of_pack, 5 if number else first)):
                data = bytearray(path.read_bytes())
                if number == 0 and which < damaged:
                    data[8192 + self.choose.randrange(65536)] ^= 1 << self.choose.randrange(8)
                folder = self.choose.choice(folders) / self.choose.choice(("", "deep"))
                (folder / f"{self.choose.getrandbits(64):x}").write_bytes(data)
        return folders

    def test_a_tree_twice(self):
        source = self.scratch / "source"
        (source / "deep/deeper").mkdir(parents=True)
        (source / "big").write_bytes(self.choose.randbytes(6_000_000))
        (source / "deep/text").write_bytes(b"the same line again and again\n" * 40_000)
        (source / "deep/deeper/link").symlink_to("../text")
        os.chmod(source / "deep/deeper", 0o711)
        os.utime(source / "big", ns=(1_234_567_890_123_456_789,) * 2)
        self.say("vault", "run", source)
        first = tree.describe(source)
        (source / "deep/new").write_bytes(self.choose.randbytes(100_000))
        (source / "deep/text").unlink()
        self.say("vault", "run", source)
        hand, pile = self.deal(), self.pile()
        code, text = read(pile, hand, "--to", self.to)
        self.assertEqual(code, 0, text)
        self.assertEqual(tree.describe(self.to / "source"), tree.describe(source))
        code, text = read(pile, hand, "--list")
        oldest = text.splitlines()[0].split()[0]
        code, text = read(pile, hand, "--point", oldest[:12], "--to", self.scratch / "older")
        self.assertEqual(code, 0, text)
        self.assertEqual(tree.describe(self.scratch / "older/source"), first)
        shutil.rmtree(self.to)
        # Two wrong ones of seven are left out by themselves; one of five is one too many.
        code, text = read(self.pile(first=7, damaged=2), hand, "--to", self.to)
        self.assertEqual(code, 0, text)
        self.assertEqual(tree.describe(self.to / "source"), tree.describe(source))
        shutil.rmtree(self.to)
        for first, damaged in ((4, 0), (5, 1)):
            self.refuse(self.pile(first, damaged), hand, "4 good shards of the 5 that are needed")

    def test_a_change_of_the_seed(self):
        """The newest cards read both generations; those of before say that something newer is hidden from them."""
        source = self.scratch / "source"
        source.mkdir()
        (source / "one").write_bytes(self.choose.randbytes(1000))
        self.say("vault", "run", source)
        before, old = tree.describe(source), self.deal()
        self.say("keys", "rotate", "--apply", "--i-have-no-key-copy", code=3)  # The new seed is on this host only.
        (source / "two").write_bytes(self.choose.randbytes(1000))
        self.say("vault", "run", source)
        new = self.deal("new-cards")
        records_too = self.scratch / "records"
        shutil.copytree(self.vault / "p3/vault", records_too)
        for pile in (self.pile(), [*self.pile(), records_too]):
            code, text = read(pile, new, "--to", self.to)
            self.assertEqual(code, 0, text)
            self.assertEqual(tree.describe(self.to / "source"), tree.describe(source))
            shutil.rmtree(self.to)
            code, text = read(pile, new, "--list")
            self.assertEqual(len(text.splitlines()), 2, text)
            self.refuse(pile, old, "a newer point may be in a pack that is sealed to keys")
            for hand, more in ((old, ["--older-is-fine"]), (new, ["--point", text.split()[0]])):
                code, said = read(pile, hand, *more, "--to", self.to)
                self.assertEqual(code, 0, said)
                self.assertEqual(tree.describe(self.to / "source"), before)
                shutil.rmtree(self.to)

    def test_the_program_takes_shares_of_another_tool(self):
        seed = next(iter(cards.seeds([cards.Card(path.read_text(), path.name) for path in self.deal()])))
        theirs = shamir_mnemonic.generate_mnemonics(1, [(3, 5)], seed, b"", False, 1)[0]
        ours = next((self.scratch / "cards").glob("*.txt")).read_text().splitlines()
        hand = []
        for words in theirs[1:4]:
            number = cards.Card(words, "").index + 1
            lines = [f"card: {number} of 5" if line.startswith("card:") else line for line in ours if ": " in line]
            hand.append(self.scratch / f"theirs-{number}")
            hand[-1].write_text("\n".join(["holdfast card", *lines, words, ""]))
            hand[-1].chmod(0o600)
        options = [option for path in hand for option in ("--card", path)]
        # Where a vault record is at hand it names the cards that were handed out, and these were not: only without one.
        self.say("keys", "recover", "--out", self.scratch / "read.key", *options, home=self.scratch)
        self.assertEqual((self.scratch / "read.key").read_bytes(), (self.vault / "keys/read.key").read_bytes())

    def test_a_kernel_node(self):
        """What the reader writes is a node's data directory: a node started on it answers with the recorded hash."""
        def start(data):
            command = [PROGRAM, "kernel", "run", "--data", data, "--token-file", token, "--listen", "127.0.0.1:0", "--json"]
            node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"HOME": str(self.home)})
            self.addCleanup(node.wait)
            self.addCleanup(node.kill)
            self.addCleanup(node.stdout.close)
            address = next(line for line in node.stdout if "127.0.0.1:" in line)
            return node, "127.0.0.1:" + address.split("127.0.0.1:")[1].split('"')[0].split()[0]

        def put(address, first):
            lines = [json.dumps({"id": n, "vector": [1.0, n, 0.5], "metadata": f"entry {n}"}) for n in range(first, first + 50)]
            (self.scratch / "lines").write_text("\n".join(lines))
            self.say("kernel", "put", "--address", address, "--token-file", token, "--collection", "shelf", self.scratch / "lines")

        token = self.scratch / "token"
        node, address = start(self.scratch / "node")
        with open(self.home / ".config/holdfast/config.toml", "a") as file:
            file.write(f'\n[source.memory]\nkind = "kernel"\nurl = "http://{address}"\ntoken = {{ file = "{token}" }}\n')
        hand = self.deal()
        for first in (1, 101):
            put(address, first)
            self.say("vault", "run", "memory")
        proof = self.say("kernel", "proof", "--address", address, "--token-file", token)
        node.send_signal(signal.SIGTERM)
        node.wait(60)
        code, text = read(self.pile(), hand, "--to", self.to)
        self.assertEqual(code, 0, text)
        node, address = start(self.to)
        again = self.say("kernel", "proof", "--address", address, "--token-file", token)
        self.assertEqual(again, proof)
        recorded = text.split("state hash ")[1].split()[0]
        self.assertIn(recorded, again)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
