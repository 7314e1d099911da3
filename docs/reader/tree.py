"""What a tree is, for comparing: contents, names, modes, times, links."""

import hashlib
import os
import stat

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe"}


def describe(top):
    """One line for each entry below `top`: name, kind, mode, time in ns, content or target, names of the same file."""
    lines, inodes = [], {}
    for folder, folders, files in sorted(os.walk(os.fsencode(top))):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kind = KINDS[stat.S_IFMT(status.st_mode)]
            short = os.path.relpath(path, os.fsencode(top)).decode("utf-8", "backslashreplace")
            line = [short, kind, f"{status.st_mtime_ns}"]
            if kind == "link":
                line.append(os.readlink(path).decode())
            else:
                line.insert(2, f"{stat.S_IMODE(status.st_mode):04o}")
            if kind == "file":
                with open(path, "rb") as file:
                    line.append(f"{status.st_size} {hashlib.sha256(file.read()).hexdigest()}")
                if status.st_nlink > 1:
                    line.append(f"same file as {inodes.setdefault(status.st_ino, short)}")
            lines.append("\t".join(line))
    return lines
