#!/usr/bin/env python3
"""Restores a point of a holdfast vault from shards and cards, without holdfast.

    reader.py --shards FOLDER.. --card FILE.. --list
    reader.py --shards FOLDER.. --card FILE.. [--source NAME] [--point ID | --older-is-fine] --to NEW_FOLDER

Shards are found under any names; enough of each pack must be there (5 of 9 by default). A card file holds the card's
text or its bare words; `--card -` reads one from the terminal, ended by an empty line. Written from vault/FORMAT.md,
keys/FORMAT.md and kernel/FORMAT.md alone; README.md says what it leaves out.
"""

import argparse
import signal
import sys

import cards
import keys
from cards import Refused
from points import Vault
from restore import restore
from shards import scan
from trust import check_of

GENERATIONS_TRIED = 64


def warn(text):
    print(text, file=sys.stderr)


def read_card(path):
    name = "the typed card" if path == "-" else path
    try:
        if path != "-":
            with open(path, encoding="utf-8") as file:
                return cards.Card(file.read(), name)
        warn("Type the words of a card; an empty line ends it.")
        return cards.Card("\n".join(iter(lambda: sys.stdin.readline().strip(), "")), name)
    except UnicodeDecodeError as error:
        raise Refused(f"{name} is not UTF-8 text: it is no card") from error


def name_culprits(hand, envelopes):
    """Cards that are not those a vault record found beside the shards names. Such a record is checked only under
    the root it names itself: it can accuse, never vouch."""
    accused = set()
    for envelope, _ in envelopes.values():
        if envelope.kind != 1:
            continue
        try:
            record = envelope.verify(envelope.body["root_public"], envelope.vault, "a vault record")
        except Refused:
            continue
        for card in hand:
            for card_set in record["card_sets"]:
                if card.lines and (card.set != card_set["number"] or card.vault != envelope.vault):
                    continue
                if card.need != card_set["need"] or not card.index < len(card_set["cards"]) <= 16:
                    continue
                data = card.hash_input(envelope.vault, card_set["number"], len(card_set["cards"]))
                if keys.H("holdfast card hash 1", data) == card_set["cards"][card.index]:
                    accused.discard(card.name)
                    break
                accused.add(card.name)
    return "".join(f"\n  {name} is not the card that the vault record names" for name in sorted(accused))


def open_vault(hand, found):
    """The vault that these cards open, once the seed proved itself by its root."""
    packs, envelopes, _ = found
    try:
        candidates = cards.seeds(hand)
    except Refused as error:
        raise Refused(f"{error}{name_culprits(hand, envelopes)}") from error
    if not candidates:
        raise Refused("the digest of the cards is wrong: one of them is not what it was"
                      + (name_culprits(hand, envelopes) or "\n  which one, only the vault record would tell"))
    told = next((card for card in hand if card.lines), None)
    generations = [told.generation] if told else range(1, GENERATIONS_TRIED + 1)
    # Anyone can write a header that names this recipient and another vault: each is tried.
    wanted = {}
    for pack in packs.values():
        for name, _ in pack.header.slots:
            wanted.setdefault(name, set()).add(pack.header.vault)
    opened = []
    for seed in candidates:
        for generation in generations:
            recipient = keys.Recipient(keys.from_seed(seed, b"reader kem", generation)).id
            for vault in [told.vault] if told else sorted(wanted.get(recipient, ())):
                attempt = Vault(seed, generation, found, warn)
                if told and told.lines["key check"].upper() != check_of(attempt.root):
                    continue
                attempt.open(vault)
                opened.append(attempt)
    if opened:
        # The one with the most that is proven; of forged ones nothing is.
        return max(opened, key=lambda attempt: len(attempt.points))
    raise Refused("the cards go together, and their seed is not this vault's: "
                  + ("its root is not the one on the cards" if told else "it opens none of these shards")
                  + name_culprits(hand, envelopes))


def choose(vault, arguments):
    """The point that was asked for, or the newest if nothing that is hidden here could be newer."""
    points = [point for point in vault.points if arguments.source in (None, point.record["source"])]
    if arguments.point:
        begins = arguments.point.lower()
        points = [point for point in points if point.id.hex().startswith(begins)]
        if len({point.id for point in points}) == 1:
            return points[0]
        doubts = [f"\n  {point.id.hex()} is not believed: {why}" for point, why in vault.doubted if point.id.hex().startswith(begins)]
        raise Refused(f"{len({point.id for point in points})} points begin with {arguments.point}{''.join(doubts)}")
    if not points:
        raise Refused("no point is in these shards that these cards open and that is proven")
    hidden = []
    if vault.broken:
        hidden.append("a newer point may be in a pack that cannot be read: bring more shards")
    if vault.foreign:
        hidden.append("a newer point may be in a pack that is sealed to keys which these cards do not give: after a change of "
                      "the seed bring the newest cards, and a vault record with them")
    if hidden and not arguments.older_is_fine:
        raise Refused("\n".join([*hidden, "Or choose one with --point (--list shows them), or take the newest of those with "
                                 "--older-is-fine."]))
    if len({point.record["source"] for point in points}) > 1:
        raise Refused("points of several sources are here: choose with --source or --point (--list shows them)")
    return max(points, key=lambda point: (point.record["finished_ms"], point.record["epoch"], point.record["sequence"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--card", nargs="+", required=True, action="extend", metavar="FILE")
    parser.add_argument("--list", action="store_true", help="list the points")
    parser.add_argument("--source", metavar="NAME")
    parser.add_argument("--point", metavar="ID", help="the first digits of its id [default: the newest]")
    parser.add_argument("--older-is-fine", action="store_true", help="the newest that can be read, where a newer one may be hidden")
    parser.add_argument("--to", metavar="FOLDER", help="a new or empty folder")
    arguments = parser.parse_args()
    if bool(arguments.to) == arguments.list:
        parser.error("either --list or --to FOLDER")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        run(arguments)
    except (Refused, OSError) as error:
        sys.exit(f"reader: {error}\nNothing was restored.")
    except KeyboardInterrupt:
        sys.exit("reader: stopped. Nothing was restored.")


def run(arguments):
    hand = [read_card(path) for path in arguments.card]
    found = scan(arguments.shards)
    for complaint in found[2]:
        warn(f"! {complaint}")
    vault = open_vault(hand, found)
    for trouble in vault.broken:
        warn(f"! {trouble}")
    if vault.foreign:
        warn(f"! {len(vault.foreign)} packs are sealed to keys that these cards do not give")
    for point, why in vault.doubted:
        warn(f"! point {point.id.hex()} of {point.record['source']!r} is not believed: {why}")
    if arguments.list:
        for point in sorted(vault.points, key=lambda point: point.record["finished_ms"]):
            print(point)
        return
    point = choose(vault, arguments)
    vault.believe(point)
    for line in restore(vault, point, arguments.to):
        print(line)
    for path in sorted({str(path) for pack in vault.packs.values() for path in pack.bad}):
        warn(f"! damaged, not needed this time: {path}")
    print(f"Restored point {point.id.hex()} of {point.record['source']} to {arguments.to}")


if __name__ == "__main__":
    main()
