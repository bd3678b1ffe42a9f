"""A mixture of sources: what cannot be read is passed over and counted, up to a limit that names it."""

from pathlib import Path

import pytest
from moca_rag.train.mixture import Fault, Mixture
from moca_rag.train.rows import CptRow, RowError
from moca_rag.train.settings import Source
from moca_rag.train.sources import open_cpt

from moca_rag.errors import DocumentError


def keep(row: CptRow) -> CptRow:
    return row


BAD = ["{", "[1]", '{"text": 7}', '{"text": ""}', '{"text": "t", "images": ["nowhere.png"]}', "[" * 100_000]


def test_rows_that_cannot_be_read_are_skipped_up_to_the_limit_then_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(['{"text": "good"}', *BAD]))
    rows = open_cpt(Source(str(path)))
    table = Mixture([rows], max_bad_rows=len(BAD))
    taken = [table.take(index, keep) for index in range(len(rows))]
    assert [row.text for row in taken if row is not None] == ["good"]
    assert table.num_bad == len(BAD)
    reasons = [table.attempt(index, keep) for index in range(1, len(rows))]
    assert all(
        isinstance(fault, Fault) and fault.reason.startswith(f"rows, row {index}: ")
        for index, fault in enumerate(reasons, 2)
    )
    table = Mixture([rows], max_bad_rows=1)
    table.take(1, keep)
    with pytest.raises(
        DocumentError, match=r"2 rows cannot be read, over the limit of 1 \(rows, row 2: .*row 3"
    ) as caught:
        table.take(2, keep)
    assert caught.value.code == "unreadable_rows"


def test_what_is_made_of_a_row_is_skipped_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "good"}\n')
    rows = open_cpt(Source(str(path)))
    table = Mixture([rows], max_bad_rows=1)
    assert table.take(0, lambda row: len(row.text)) == 4
    with pytest.raises(ZeroDivisionError):  # an error that is not the row's is never skipped
        table.take(0, lambda row: 1 / 0)

    def fail(_: object) -> None:
        raise RowError("an image is broken")

    assert table.attempt(0, fail) == Fault("rows, row 1: an image is broken")
    assert table.num_bad == 0
    assert table.take(0, fail) is None
    assert table.num_bad == 1


def test_how_rows_are_drawn_belongs_to_the_data_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "good"}\n')
    sources = (Source(str(path)), Source(str(path), weight=2.0), Source(str(path), batch_size=4))
    prints = [Mixture([open_cpt(source)], max_bad_rows=0).fingerprint() for source in sources]
    assert len(set(prints)) == 3
    assert prints[0] == Mixture([open_cpt(Source(str(path)))], max_bad_rows=0).fingerprint()
