"""Reading in child processes: a document that breaks, kills or keeps its reader costs only itself."""

import os
import signal
import time
from pathlib import Path

import pytest
from moca_rag.train.reading import Readers, Reading

from moca_rag.errors import DocumentError
from tests.makers import PAGE_WORDS, make_pdf


class Deadly(Reading):
    """Ends the process that reads it, as a bug in a PDF library does."""

    def read(self) -> list:  # type: ignore[type-arg]
        os.kill(os.getpid(), signal.SIGSEGV)
        return []


class Endless(Reading):
    """Is never read to its end."""

    def read(self) -> list:  # type: ignore[type-arg]
        time.sleep(600)
        return []


class Hungry(Reading):
    """Asks for more memory than a reader gets."""

    def read(self) -> list:  # type: ignore[type-arg]
        return [bytearray(16 << 30)]


@pytest.mark.parametrize("num_processes", [1, 3])
def test_answers_come_in_turn_around_those_that_cannot_be_read(tmp_path: Path, num_processes: int) -> None:
    paths = [make_pdf(tmp_path / f"{number}.pdf", [PAGE_WORDS[number]]) for number in range(3)]
    (tmp_path / "page.html").write_text("<p>The keeper oils the pump.</p>")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 nothing more")
    readings = [
        Reading("pdf", (paths[0],)),
        Deadly("pdf", (paths[0],)),
        Reading("pdf", (paths[1],)),
        Reading("pdf", (tmp_path / "broken.pdf",)),
        Hungry("pdf", ()),
        Reading("html", (tmp_path / "page.html",)),
        Reading("pdf", (paths[2],)),
    ]
    with Readers(num_processes, 60) as readers:
        answers = list(readers.read(readings))
    codes = [answer.code if isinstance(answer, DocumentError) else "" for answer in answers]
    assert codes == ["", "crashed", "", "broken", "broken", "", ""]
    texts = [answer[0].blocks[0].text for answer in answers if not isinstance(answer, DocumentError)]
    assert texts == [PAGE_WORDS[0], PAGE_WORDS[1], "The keeper oils the pump.", PAGE_WORDS[2]]


def test_one_that_never_ends_is_given_up(tmp_path: Path) -> None:
    path = make_pdf(tmp_path / "a.pdf", [PAGE_WORDS[0]])
    with Readers(1, 4) as readers:
        late, fine = readers.read([Endless("pdf", ()), Reading("pdf", (path,))])
    assert isinstance(late, DocumentError) and late.code == "timeout"
    assert isinstance(fine, list)


def test_leaving_early_ends_the_processes_in_the_middle_of_their_work() -> None:
    with Readers(2, 600) as readers:
        answers = readers.read([Deadly("pdf", ()), *(Endless("pdf", ()) for _ in range(9))])
        assert isinstance(next(answers), DocumentError)
    # leaving the block would take hours otherwise
