"""Runs `moca` in this process or in another one, and holds what it says against the promises for bad input."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moca_rag.cli.main import run

ROOT = Path(__file__).parents[1]
MAIN = "from moca_rag.cli.main import main; main()"
# Not even root may write where the permissions forbid it: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH are dropped.
HUMBLE = "import ctypes; [ctypes.CDLL(None).prctl(24, right, 0, 0, 0) for right in (1, 2)]; "
EXEC = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])"
FIRST_LINE = "This is a [a-z]+ collection"  # what a run says when it makes one; no error


@dataclass(frozen=True)
class Outcome:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on standard error; fails where there is none, or more, or a traceback."""
        assert "Traceback" not in self.err, self.err
        said = re.sub(rf"{FIRST_LINE}[^.]*\.[^.]*\.\n", "", self.err).strip().splitlines()
        assert len(said) == 1, f"not one line: {said}"
        return said[0]

    @property
    def json(self) -> Any:
        """The one object on standard output."""
        assert "Traceback" not in self.err, self.err
        return json.loads(self.out)

    @property
    def codes(self) -> dict[str, str]:
        """Failed paths and their codes, of `moca index --json`."""
        return {row["path"]: row["code"] for row in self.json["failed"]}


class Moca:
    """The command line in this process, with one collection."""

    def __init__(self, capsys: pytest.CaptureFixture[str], collection: Path) -> None:
        self.collection = collection
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Outcome:
        """Run one command on the collection."""
        self._capsys.readouterr()
        code = run([*map(str, arguments), "-c", str(self.collection)])
        said = self._capsys.readouterr()
        return Outcome(code, said.out, said.err)

    def pages(self) -> dict[str, int]:
        """What a person sees: documents and how many of their pages are here."""
        listed = self("ls", "--json").json["documents"]
        return {row["document"]: row["pages"] for row in listed}

    def hits(self, query: str) -> list[tuple[str, int]]:
        """Documents and pages that answer, best first."""
        found = self("search", query, "--json").json["hits"]
        return [(hit["document"], hit["page"]) for hit in found]


def command(*arguments: object, humble: bool = False) -> list[str]:
    """The command line as a process of its own; `humble` without root's right to overlook permissions."""
    plain = [MAIN, *map(str, arguments)]
    return [sys.executable, "-c", HUMBLE + EXEC, *plain] if humble else [sys.executable, "-c", *plain]


def run_apart(*arguments: object, humble: bool = False, **variables: str) -> Outcome:
    """Run one command in a process of its own."""
    environment = {**os.environ, **variables}
    words = command(*arguments, humble=humble)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A command under way; killed at the end if it still is."""
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Any, seconds: float = 30) -> None:
    """Wait until the condition holds; an AssertionError where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def children(parent: int) -> list[int]:
    """Processes started by this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text() if entry.name.isdecimal() else ""
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        if fields and int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def is_alive(process: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def age(folder: Path) -> None:
    """Make files old enough for their time stamp to be trusted."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 100, time.time() - 100))
