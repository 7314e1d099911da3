"""Cards: 33 words each, SLIP-39, with lines for people above them (keys/FORMAT.md, section 7).

What always holds: a card with a wrong word or checksum is refused by its name; a seed comes
out only if the digest inside the shares confirms it.
"""

import hashlib
import hmac
import itertools
import pathlib
import re

WORDS = pathlib.Path(__file__).with_name("slip39-words.txt").read_text().split()
NUMBER_OF = {word: number for number, word in enumerate(WORDS)}
NUMBER_OF.update({word[:4]: number for number, word in enumerate(WORDS)})


class Refused(Exception):
    """What was wrong, for people."""


# GF(256) with x^8 + x^4 + x^3 + x + 1, as SLIP-39 has it (packs use another polynomial).
EXP, LOG = [0] * 255, [0] * 256
_value = 1
for _power in range(255):
    EXP[_power], LOG[_value] = _value, _power
    _value ^= _value << 1
    if _value & 0x100:
        _value ^= 0x11B


def interpolate(points, at):
    """The polynomial through `points` {x: bytes}, at `at`, byte by byte."""
    if at in points:
        return points[at]
    log_all = sum(LOG[x ^ at] for x in points)
    out = bytes(len(next(iter(points.values()))))
    for x, values in points.items():
        basis = (log_all - LOG[x ^ at] - sum(LOG[x ^ other] for other in points if other != x)) % 255
        out = bytes(o ^ (EXP[(LOG[v] + basis) % 255] if v else 0) for o, v in zip(out, values))
    return out


def checksum(numbers, extendable):
    """RS1024 over the customisation string and the words; 1 if it is right."""
    generators = (0xE0E040, 0x1C1C080, 0x3838100, 0x7070200, 0xE0E0009,
                  0x1C0C2412, 0x38086C24, 0x3090FC48, 0x21B1F890, 0x3F3F120)
    state = 1
    for number in [*(b"shamir_extendable" if extendable else b"shamir"), *numbers]:
        top = state >> 20
        state = (state & 0xFFFFF) << 10 ^ number
        for bit, generator in enumerate(generators):
            state ^= generator if top >> bit & 1 else 0
    return state


class Card:
    """One share, and what the lines above its words say (None where there are none)."""

    def __init__(self, text, name):
        self.name, self.lines, words = name, {}, []
        useful = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        if useful and useful[0].lower() == "holdfast card":
            for line in useful[1:]:
                key, colon, value = line.partition(":")
                key = " ".join(key.lower().split())
                if colon and not key.isdigit():
                    if key in self.lines or key not in ("vault", "generation", "set", "card", "need", "key check"):
                        raise Refused(f"{name}: the line {key!r} is unknown or stands twice")
                    self.lines[key] = " ".join(value.split())
                else:
                    words.append(line)
            if len(self.lines) != 6:
                raise Refused(f"{name}: a card has the lines vault, generation, set, card, need and key check")
        else:
            words = useful
        self.numbers = []
        for token in " ".join(words).lower().split():
            if re.fullmatch(r"[0-9]{1,9}[.):]?", token):
                if int(token.rstrip(".):")) != len(self.numbers) + 1:
                    raise Refused(f"{name}: word number {token} stands where {len(self.numbers) + 1} belongs")
                continue
            if token not in NUMBER_OF:
                raise Refused(f"{name}: word {len(self.numbers) + 1} ({token!r}) is not in the list")
            self.numbers.append(NUMBER_OF[token])
        self.read_share()
        if self.lines:
            self.compare_lines()

    def read_share(self):
        if len(self.numbers) != 33:
            raise Refused(f"{self.name}: {len(self.numbers)} words; a card has 33")
        bits = 0
        for number in self.numbers:
            bits = bits << 10 | number
        # id 15 | extendable 1 | exponent 4 | group index, threshold, count 4 each | member index 4 | threshold 4
        # | padding 4, value 256 | checksum 30
        head = bits >> 290
        self.identifier, self.extendable = head >> 25, head >> 24 & 1
        self.exponent, group = head >> 20 & 15, head >> 8 & 0xFFF
        self.index, self.need = head >> 4 & 15, (head & 15) + 1
        if checksum(self.numbers, self.extendable) != 1:
            raise Refused(f"{self.name}: the checksum of the words is wrong: a word was misread or they are out of order")
        if group != 0 or bits >> 286 & 15:
            raise Refused(f"{self.name}: a SLIP-39 share of several groups; holdfast deals one")
        self.value = (bits >> 30 & (1 << 256) - 1).to_bytes(32, "big")

    def compare_lines(self):
        numbers = re.fullmatch(r"([0-9]{1,9}) of ([0-9]{1,9})", self.lines["card"])
        if not numbers or int(numbers[1]) != self.index + 1 or self.number("need") != self.need:
            raise Refused(f"{self.name}: what the lines say and what the words say differ")
        self.generation, self.set = self.number("generation"), self.number("set")
        vault = self.lines["vault"].replace(" ", "")
        if not re.fullmatch("[0-9A-Fa-f]{32}", vault):
            raise Refused(f"{self.name}: the line 'vault' is not 32 hex digits")
        self.vault = bytes.fromhex(vault)

    def number(self, line):
        if not re.fullmatch("[0-9]{1,10}", self.lines[line]) or not 1 <= int(self.lines[line]) < 1 << 32:
            raise Refused(f"{self.name}: the line {line!r} is not a number from 1")
        return int(self.lines[line])

    def hash_input(self, vault, number_of_set, total):
        """The bytes whose hash stands in the vault record."""
        return (vault + number_of_set.to_bytes(4, "little") + bytes([self.index + 1, total, self.need, 33])
                + b"".join(number.to_bytes(2, "little") for number in self.numbers))


def decrypt(secret, card):
    """SLIP-39's cipher backwards: four Feistel rounds of PBKDF2, no passphrase."""
    salt = b"" if card.extendable else b"shamir" + card.identifier.to_bytes(2, "big")
    left, right = secret[:16], secret[16:]
    for turn in (3, 2, 1, 0):
        pad = hashlib.pbkdf2_hmac("sha256", bytes([turn]), salt + right, 2500 << card.exponent, 16)
        left, right = right, bytes(a ^ b for a, b in zip(left, pad))
    return right + left


def seeds(cards):
    """Every seed that a choice of enough of these cards gives; normally one."""
    first = cards[0]
    for card in cards[1:]:
        for what, mine, its in (
            ("vault", first.lines.get("vault"), card.lines.get("vault")),
            ("set", first.lines.get("set"), card.lines.get("set")),
            ("generation", first.lines.get("generation"), card.lines.get("generation")),
            ("key check", first.lines.get("key check"), card.lines.get("key check")),
        ):
            if mine and its and mine.lower() != its.lower():
                raise Refused(f"{card.name} is of another {what} ({its}) than {first.name} ({mine}): "
                              "cards of different sets do not go together")
        if (card.identifier, card.extendable, card.exponent, card.need) != \
                (first.identifier, first.extendable, first.exponent, first.need):
            raise Refused(f"{card.name} is of another set than {first.name}: cards of different sets do not go together")
    distinct = {}
    for card in cards:
        if card.index in distinct and distinct[card.index].value != card.value:
            raise Refused(f"{card.name} and {distinct[card.index].name} both say they are card {card.index + 1} and differ")
        distinct.setdefault(card.index, card)
    if len(distinct) < first.need:
        raise Refused(f"{len(distinct)} different cards; {first.need} are needed")
    found = {}
    for chosen in itertools.combinations(distinct.values(), first.need):
        points = {card.index: card.value for card in chosen}
        secret = interpolate(points, 255) if first.need > 1 else first.value
        if first.need > 1:
            digest = interpolate(points, 254)
            if hmac.digest(digest[4:], secret, "sha256")[:4] != digest[:4]:
                continue
        found.setdefault(decrypt(secret, first), chosen)
    return found
