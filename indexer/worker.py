"""A process that reads pages for the indexer: requests on standard input, answers on standard output.

    python -m moca_rag.indexer.worker

It may be killed at any time. A request is one line of JSON; an answer is one line of JSON that says how many bytes of
words and of pixels follow. It dies with its parent, and by its own alarm when a page takes too long.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from moca_rag.errors import DocumentError
from moca_rag.records import PixelBudget
from moca_rag.render import OpenDocument, open_document
from moca_rag.textlayer import pack_words

ALARM_SLACK_S = 5  # the parent's clock decides; the alarm is for a worker whose parent is gone
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    limits = json.loads(sys.stdin.readline() or "{}")
    if not limits:
        return
    _die_with_parent(int(limits["parent"]))
    _cap_memory(int(limits["memory_mb"]))
    reader = _Reader(int(limits["timeout_s"]))
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin:
        reader.answer(json.loads(line), answers)


class _Reader:
    """Keeps the last document open: requests for its pages come in a row."""

    def __init__(self, timeout_s: int) -> None:
        self._timeout_s = timeout_s
        self._path: str | None = None
        self._document: OpenDocument | None = None

    def answer(self, request: dict[str, Any], answers: BinaryIO) -> None:
        """Write one answer: a document's description, a page, or why there is none."""
        signal.alarm(self._timeout_s + ALARM_SLACK_S)
        words = pixels = b""
        try:
            document = self._open(request)
            if request["page"] == 0:
                info = document.info
                head: dict[str, Any] = {"kind": info.kind, "num_pages": info.num_pages, "title": info.title}
                head |= {"metadata": info.metadata, "outline": info.outline}
            else:
                budget = PixelBudget(**request["pixels"]) if request["pixels"] else None
                page = document.read_page(request["page"], budget)
                words = pack_words(page.words)
                head = {"width": page.width, "height": page.height}
                if page.image is not None:
                    head["shape"] = page.image.shape
                    pixels = page.image.tobytes()
        except DocumentError as error:
            head = {"code": error.code, "reason": str(error)}
        except MemoryError:
            head = {"code": "page_memory", "reason": f"page {request['page']} needs more memory than a page may have"}
        head |= {"words": len(words), "pixels": len(pixels)}
        answers.write(json.dumps(head).encode() + b"\n" + words + pixels)
        answers.flush()
        signal.alarm(0)

    def _open(self, request: dict[str, Any]) -> OpenDocument:
        if self._document is None or self._path != request["path"]:
            if self._document is not None:
                self._document.close()
            self._document, self._path = None, None
            self._document = open_document(Path(request["path"]), request["passwords"])
            self._path = request["path"]
        return self._document


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _cap_memory(memory_mb: int) -> None:
    """Allow this many megabytes beyond what is mapped now; macOS accepts the limit without holding to it."""
    try:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return
    limit = mapped + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
