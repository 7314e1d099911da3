#!/usr/bin/env python3
"""Restores a point of a holdfast vault from shards and cards, without holdfast.

    reader.py --shards FOLDER.. --card FILE.. --list
    reader.py --shards FOLDER.. --card FILE.. [--source NAME] [--point ID] --to NEW_FOLDER

Shards are found under any names; enough of each pack must be there (5 of 9 by default). A card file holds the card's
text or its bare words; `--card -` reads one from the terminal, ended by an empty line. Written from vault/FORMAT.md,
keys/FORMAT.md and kernel/FORMAT.md alone; README.md says what it leaves out.
"""

import argparse
import sys

import cards
import keys
from cards import Refused
from points import Vault
from restore import restore
from shards import scan

GENERATIONS_TRIED = 64


def warn(text):
    print(text, file=sys.stderr)


def read_card(path):
    if path != "-":
        with open(path, encoding="utf-8") as file:
            return cards.Card(file.read(), path)
    warn("Type the words of a card; an empty line ends it.")
    return cards.Card("\n".join(iter(lambda: sys.stdin.readline().strip(), "")), "the typed card")


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
                if card.lines and (int(card.lines["set"]) != card_set["number"] or card.vault != envelope.vault):
                    continue
                if card.need != card_set["need"] or card.index >= len(card_set["cards"]):
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
    lines = next((card.lines for card in hand if card.lines), None)
    generations = [int(lines["generation"])] if lines else range(1, GENERATIONS_TRIED + 1)
    wanted = {name: pack.header.vault for pack in packs.values() for name, _ in pack.header.slots}
    for seed in candidates:
        for generation in generations:
            recipient = keys.Recipient(keys.from_seed(seed, b"reader kem", generation)).id
            vault = bytes.fromhex(lines["vault"].replace(" ", "")) if lines else wanted.get(recipient)
            if vault is None:
                continue
            opened = Vault(seed, generation, found, warn)
            check = "-".join(f"{byte:02X}" for byte in keys.fingerprint(opened.root)[:3])
            if lines and lines["key check"].upper() != check:
                continue
            opened.open(vault)
            return opened
    raise Refused("the cards go together, and their seed is not this vault's: "
                  + ("its root is not the one on the cards" if lines else "it opens none of these shards")
                  + name_culprits(hand, envelopes))


def choose(vault, arguments):
    points = [point for point in vault.points if arguments.source in (None, point.record["source"])]
    if arguments.point:
        points = [point for point in points if point.id.hex().startswith(arguments.point.lower())]
        if len({point.id for point in points}) != 1:
            raise Refused(f"{len(points)} points begin with {arguments.point}")
        return points[0]
    if not points and not vault.broken:
        raise Refused("no point is in these shards" + (" for these cards" if vault.foreign else ""))
    if vault.broken or vault.foreign:
        raise Refused("a newer point may be in a pack that cannot be read; choose one with --point, or bring more shards"
                      + (" or newer cards" if vault.foreign else ""))
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
    parser.add_argument("--to", metavar="FOLDER", help="a new or empty folder")
    arguments = parser.parse_args()
    if bool(arguments.to) == arguments.list:
        parser.error("either --list or --to FOLDER")
    try:
        run(arguments)
    except (Refused, OSError) as error:
        sys.exit(f"reader: {error}\nNothing was restored.")


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
    if arguments.list:
        for point in sorted(vault.points, key=lambda point: point.record["finished_ms"]):
            print(point)
        return
    point = choose(vault, arguments)
    vault.believe(point)
    for line in restore(vault, point, arguments.to):
        print(line)
    print(f"Restored point {point.id.hex()} of {point.record['source']} to {arguments.to}")


if __name__ == "__main__":
    main()
