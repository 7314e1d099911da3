#!/usr/bin/env python3
"""The other side of the SLIP-39 cross-check: the PyPI package shamir-mnemonic.

cross_check.py recover            reads one mnemonic per line, prints the secret in hex
cross_check.py split NEED TOTAL   reads a secret in hex, prints one mnemonic per line
cross_check.py split-extendable NEED TOTAL   the same with the extendable flag

Run by tests/cross_check.rs, which installs the package into an environment of its own.
"""

import sys

from shamir_mnemonic import combine_mnemonics, generate_mnemonics


def main() -> None:
    command = sys.argv[1]
    lines = [line.strip() for line in sys.stdin if line.strip()]
    if command == "recover":
        print(combine_mnemonics(lines, b"").hex())
    else:
        need, total = int(sys.argv[2]), int(sys.argv[3])
        groups = generate_mnemonics(
            group_threshold=1,
            groups=[(need, total)],
            master_secret=bytes.fromhex(lines[0]),
            passphrase=b"",
            extendable=command == "split-extendable",
            iteration_exponent=1,
        )
        print("\n".join(groups[0]))


main()
