"""Prints a SHA-256 over everything below a folder: names, types, modes, times,
links and bytes. Standard library only; shares nothing with the program."""

import hashlib
import os
import stat
import sys


def walk(root):
    """All paths below the root, and the root, in order of their bytes."""
    found = [root]
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            found.extend(walk(entry.path))
        else:
            found.append(entry.path)
    return found


def main(root):
    digest = hashlib.sha256()
    for path in walk(root):
        info = os.lstat(path)
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path).hex()
        else:
            content = ""
        name = os.path.relpath(path, root).hex()
        digest.update(f"{name} {info.st_mode:o} {info.st_mtime_ns} {content}\n".encode())
    print(digest.hexdigest())


main(os.fsencode(sys.argv[1]))
