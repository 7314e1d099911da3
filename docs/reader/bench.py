"""What the tests of the reader share: running it, the golden vault, how a refusal must look."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE / "golden"
ELSEWHERE = HERE.parent.parent / "vault/ops/testdata/golden/v1"
SEED = int(os.environ.get("HOLDFAST_SEED", "1"))


def golden_card(number):
    return GOLDEN / "cards" / f"card-{number}.txt"


def read(folders, hand, *more, plain_python=False):
    """Runs the reader as a person would: its exit code and all it said."""
    command = [sys.executable, HERE / "reader.py", "--shards", *folders, "--card", *hand, *more]
    environment = os.environ | ({"READER_PLAIN_PYTHON": "1"} if plain_python else {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


class Case(unittest.TestCase):
    def setUp(self):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-reader-"))
        self.addCleanup(shutil.rmtree, self.scratch)
        self.to = self.scratch / "restored"

    def refuse(self, folders, hand, *said):
        """The reader must end in an error that says this, and leave nothing behind."""
        code, text = read(folders, hand, "--to", self.to)
        self.assertEqual(code, 1, text)
        for part in (*said, "Nothing was restored."):
            self.assertIn(part, text)
        self.assertNotIn("Traceback", text)
        self.assertEqual(list(self.scratch.glob("restored*")), [])
