"""One writer a collection: a lock that dies with its process."""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

from .errors import CollectionError, LockedError


class WriteLock:
    """Held while a collection is written; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock at once. Raises LockedError, naming the holder, or CollectionError if it cannot be made."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CollectionError(
                f"{path.parent} cannot be written: {error.strerror}: check its permissions"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(self._file)
            os.close(self._file)
            raise LockedError(f"{path.parent} is being written by {holder}: wait until it ends, or stop it") from error
        note = {"pid": os.getpid(), "command": " ".join(["moca", *sys.argv[1:2]]), "since": time.strftime("%H:%M:%S")}
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(note).encode(), 0)
        except OSError:
            pass  # the note is for people; a full disk must not stop a removal that frees it

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _holder(file: int) -> str:
    try:
        note = json.loads(os.pread(file, 4096, 0))
        return f"process {note['pid']} (`{note['command']}`, since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
