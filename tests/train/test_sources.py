"""Sources: small files of each published schema, written here, read by the code that training uses."""

import io
import json
import multiprocessing
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest
from moca_rag.train.rows import IMAGE_SLOT, RowError, Side
from moca_rag.train.schemas import PAGE_TEXT
from moca_rag.train.settings import Source
from moca_rag.train.sources import Rows, open_cpt, open_pairs

from moca_rag.errors import ConfigError
from tests.makers import make_picture

PICTURE = f"{IMAGE_SLOT}\n"


def write_parquet(path: Path, rows: list[dict[str, Any]], group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def write_lines(path: Path, rows: list[dict[str, Any]], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(end.join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for seed in range(4):
        make_picture(tmp_path / "images" / "deep" / f"{seed}.png", seed)
    return tmp_path / "images"


def png(pictures: Path, seed: int) -> bytes:
    return (pictures / "deep" / f"{seed}.png").read_bytes()


def test_a_row_is_the_same_row_however_its_images_are_stored(pictures: Path, tmp_path: Path) -> None:
    names = [f"deep/{seed}.png" for seed in range(3)]
    shutil.make_archive(str(tmp_path / "zipped"), "zip", pictures)
    shutil.make_archive(str(tmp_path / "tarred"), "tar", pictures)
    hub = [{"text": "t" + PICTURE * 2, "images": [{"bytes": png(pictures, n), "path": None} for n in (0, 1)]}]
    plain = [{"text": "t" + PICTURE * 2, "images": [png(pictures, 0), png(pictures, 1)]}]
    paths = [{"text": "t" + PICTURE * 2, "images": names[:2]}]
    sources = [
        Source(str(write_parquet(tmp_path / "a" / "hub.parquet", hub))),
        Source(str(write_parquet(tmp_path / "a" / "plain.parquet", plain))),
        Source(str(write_parquet(tmp_path / "a" / "paths.parquet", paths)), images=str(pictures)),
        Source(str(write_lines(tmp_path / "a" / "paths.jsonl", paths)), images=str(tmp_path / "zipped.zip")),
        Source(str(write_lines(tmp_path / "a" / "paths2.jsonl", paths)), images=str(tmp_path / "tarred.tar")),
        Source(str(write_lines(tmp_path / "beside.jsonl", paths))),  # a folder `images` lies beside it
    ]
    rows = [open_cpt(source)[0] for source in sources]
    assert rows[0].images == (png(pictures, 0), png(pictures, 1))
    assert all(row == rows[0] for row in rows)


def test_a_row_read_at_random_is_the_row_read_in_order(tmp_path: Path) -> None:
    for shard in range(3):
        write_parquet(tmp_path / f"train-{shard}-of-3.parquet", [{"text": f"{shard}.{n}"} for n in range(5)])
    rows = open_cpt(Source(str(tmp_path / "train-*.parquet")))
    texts = [row.text for row in rows]
    assert texts == [f"{shard}.{n}" for shard in range(3) for n in range(5)]
    assert [rows[index].text for index in (14, 0, 7, 6, 9, 10, 3)] == [texts[i] for i in (14, 0, 7, 6, 9, 10, 3)]
    assert rows.name == tmp_path.name
    for index in (-1, 15):
        with pytest.raises(IndexError):
            rows[index]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \n"])
def test_json_lines_are_found_whatever_ends_them(tmp_path: Path, end: str) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "größer 東京"}, {"text": "two"}, {"text": "three"}], end)
    assert [row.text for row in open_cpt(Source(str(path)))] == ["größer 東京", "two", "three"]


def test_a_folder_of_pictures_and_texts_is_a_table(pictures: Path) -> None:
    (pictures / "deep" / "0.txt").write_text("first line\n\nsecond line\n")
    (pictures / "alone.txt").write_text("words without a picture")
    (pictures / ".hidden.txt").write_text("no")
    rows = list(open_cpt(Source(str(pictures))))
    assert [(row.text[:5], len(row.images)) for row in rows] == [("words", 0), ("first", 1), ("", 1), ("", 1), ("", 1)]
    pairs = list(open_pairs(Source(str(pictures), task="mine")))
    assert [pair.query.text for pair in pairs] == ["first line", "second line"]
    assert {pair.positive.images for pair in pairs} == {(png(pictures, 0),)}
    assert {pair.task for pair in pairs} == {"mine"}


def test_columns_of_another_name_are_mapped(tmp_path: Path, pictures: Path) -> None:
    path = write_lines(
        tmp_path / "qa.jsonl",
        [{"question": "why", "page": "deep/1.png", "wrong": ["deep/2.png", "deep/3.png"], "kind": "qa"}],
    )
    columns = {"query_text": "question", "positive_images": "page", "negative_images": "wrong", "task": "kind"}
    (pair,) = open_pairs(Source(str(path), columns=columns))
    assert (pair.task, pair.query, pair.positive) == ("qa", Side("why"), Side("", (png(pictures, 1),)))
    assert pair.negatives == (Side("", (png(pictures, 2),)), Side("", (png(pictures, 3),)))


def test_negatives_are_the_first_that_say_something(tmp_path: Path) -> None:
    row = {"query_text": "q", "positive_text": "p", "negative_texts": ["", None, "a", "b", "c"], "instruction": "Find."}
    path = write_lines(tmp_path / "rows.jsonl", [row])
    (pair,) = open_pairs(Source(str(path)))
    assert [side.text for side in pair.negatives] == ["a", "b"]
    assert pair.asked.text == "Find.\nq"
    (pair,) = open_pairs(Source(str(path), negatives=0))
    assert pair.negatives == ()


MMEB_ROW = {
    "qry": "<|image_1|>\nWhat is it?",
    "qry_image_path": "deep/0.png",
    "pos_text": "a crane",
    "pos_image_path": "",
}


def test_moca_pairs_hold_their_negatives_as_python_lists_in_strings(tmp_path: Path, pictures: Path) -> None:
    more = {
        "neg_text": "['', 'it\\'s <|image_1|>', \"a \\\"dog\\\"\", 'third']",
        "neg_image_path": "['', 'deep/1.png', '', '']",
    }
    path = write_parquet(tmp_path / "CIRR" / "train-00000-of-00001.parquet", [MMEB_ROW | more])
    (pair,) = open_pairs(Source(str(path), "moca-cl-pairs", images=str(pictures)))
    assert pair.task == "CIRR"
    assert pair.query == Side(f"{PICTURE}What is it?", (png(pictures, 0),))
    assert pair.positive == Side("a crane")
    assert pair.negatives == (Side(f"it's {IMAGE_SLOT}", (png(pictures, 1),)), Side('a "dog"'))


def test_mmeb_has_one_plain_negative_and_slots_without_an_image(tmp_path: Path, pictures: Path) -> None:
    odd = {
        "qry": "<|image_1|>\nonly words",
        "qry_image_path": "",
        "pos_text": "<|image_1|>",
        "pos_image_path": "deep/2.png",
    }
    rows = [
        MMEB_ROW | {"neg_text": "[not a list", "neg_image_path": ""},
        odd | {"neg_text": None, "neg_image_path": None},
    ]
    source = Source(str(write_parquet(tmp_path / "set.parquet", rows)), "mmeb-train", images=str(pictures))
    first, second = open_pairs(source)
    assert first.negatives == (Side("[not a list"),)
    assert (second.query, second.positive) == (Side("only words"), Side(IMAGE_SLOT, (png(pictures, 2),)))
    assert second.negatives == ()
    one, two = open_cpt(source)
    assert one.text == f"{PICTURE}What is it?\na crane"
    assert (two.text, two.images) == (f"only words\n{IMAGE_SLOT}", (png(pictures, 2),))


def test_colpali_pairs_ask_for_pages_with_the_page_prompt(tmp_path: Path, pictures: Path) -> None:
    image = {"bytes": png(pictures, 0), "path": "0.png"}
    row = {"image": image, "image_filename": "x.png", "query": "How much?", "answer": "12", "source": "s", "page": "3"}
    source = Source(str(write_parquet(tmp_path / "colpali.parquet", [row])), "colpali")
    (pair,) = open_pairs(source)
    assert (pair.query.text, pair.positive) == ("How much?", Side(PAGE_TEXT, (png(pictures, 0),)))
    (cpt,) = open_cpt(source)
    assert (cpt.text, cpt.images) == (f"{PICTURE}How much?\n12", (png(pictures, 0),))


def test_docmatix_is_pages_then_questions_and_answers(tmp_path: Path, pictures: Path) -> None:
    images = [{"bytes": png(pictures, n), "path": None} for n in (0, 1)]
    texts = [
        {"user": "Who?", "assistant": "Anna.", "source": "x"},
        {"user": "When?", "assistant": "In May.", "source": "x"},
    ]
    source = Source(str(write_parquet(tmp_path / "d.parquet", [{"images": images, "texts": texts}])), "docmatix")
    (row,) = open_cpt(source)
    assert row.text == f"{PICTURE}{PICTURE}Who?\nAnna.\nWhen?\nIn May."
    assert row.images == (png(pictures, 0), png(pictures, 1))
    with pytest.raises(ConfigError, match="moca train cpt"):
        open_pairs(source)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_a_path_that_leaves_its_place_is_refused(kind: str, pictures: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (pictures / "link.png").symlink_to(secret)
    place = pictures
    if kind == "zip":
        place = tmp_path / "p.zip"
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("../secret.png", b"secret")
    if kind == "tar":
        place = tmp_path / "p.tar"
        with tarfile.open(place, "w") as archive:
            archive.add(pictures / "link.png", "link.png")
            archive.addfile(tarfile.TarInfo("../secret.png"), io.BytesIO())
    for name in (
        "../secret.png",
        str(secret),
        "deep/../../secret.png",
        "..\\secret.png",
        "link.png",
        "",
        "nowhere.png",
    ):
        rows = open_cpt(
            Source(str(write_lines(tmp_path / "r.jsonl", [{"images": [name], "text": "t"}])), images=str(place))
        )
        with pytest.raises(RowError) as caught:
            rows[0]
        assert caught.value.code in ("outside", "missing", "broken")
        assert "rows" not in str(caught.value) or "row 1" in str(caught.value)


def test_a_packed_tar_is_refused_with_a_way_out(pictures: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "packed"), "gztar", pictures)
    path = write_lines(tmp_path / "r.jsonl", [{"text": "t"}])
    with pytest.raises(ConfigError, match="unpack"):
        open_cpt(Source(str(path), images=packed))


def test_what_cannot_be_opened_is_told_with_what_to_do(tmp_path: Path) -> None:
    lines = str(write_lines(tmp_path / "a.jsonl", [{"text": "t"}]))
    table = str(write_parquet(tmp_path / "b.parquet", [{"caption": "t"}]))
    broken = tmp_path / "c.parquet"
    broken.write_bytes(b"PAR1 but nothing more")
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    for source, complaint in [
        (Source(str(tmp_path / "none.parquet")), "does not exist"),
        (Source(lines, "parket"), "did you mean 'parquet'"),
        (Source(lines, columns={"txt": "caption"}), "did you mean 'text'"),
        (Source(table), "has no column text or images .it has caption.: map it, as in columns: {text: caption}"),
        (Source(table, "colpali"), "has no column image "),
        (Source(str(broken)), "is not a parquet file"),
        (Source(lines, "parquet"), "is not a parquet file"),
        (Source(str(tmp_path)), "is no one kind of table"),
        (Source(str(tmp_path / "empty.jsonl")), "has no rows"),
        (Source(lines, images=str(tmp_path / "no.zip")), "no such folder, zip or tar"),
    ]:
        with pytest.raises(ConfigError, match=complaint):
            open_cpt(source)


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": str(number)} for number in range(9)])
    assert [row.text for row in open_cpt(Source(str(path), limit=3))] == ["0", "1", "2"]
    assert len(open_cpt(Source(str(path), limit=30))) == 9


def test_a_fingerprint_follows_the_content_and_neither_place_nor_time(tmp_path: Path, pictures: Path) -> None:
    rows = [{"text": str(number)} for number in range(9)]
    path = write_lines(tmp_path / "one" / "rows.jsonl", rows)
    source = Source(str(path), task="t")
    first = open_cpt(source).fingerprint()
    copy = Path(shutil.copytree(path.parent, tmp_path / "two")) / "rows.jsonl"
    os.utime(copy, (1, 1))
    moved = Source(str(copy), task="t")
    assert open_cpt(moved).fingerprint() == first
    others = [
        Source(str(path), task="t", limit=3),
        Source(str(path), task="u"),
        Source(str(path), negatives=1, task="t"),
    ]
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", pictures)
    others.append(Source(str(path), task="t", images=archive))
    write_lines(copy, [{"text": "x"}, *rows[1:]])  # as long as before
    assert len({first, open_cpt(moved).fingerprint(), *(open_cpt(other).fingerprint() for other in others)}) == 6


def read_all(rows: Rows[Any], numbers: list[int], queue: Any) -> None:
    queue.put([rows[number].row_id for number in numbers])


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_read_the_same_rows_at_the_same_time(start: str, tmp_path: Path, pictures: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(40):
            archive.writestr(f"{number}.png", png(pictures, number % 4) * 20 + bytes([number]))
    path = write_parquet(tmp_path / "t" / "rows.parquet", [{"text": "t", "images": [f"{n}.png"]} for n in range(40)])
    rows = open_cpt(Source(str(path), images=str(tmp_path / "images.zip")))
    expected = [row.row_id for row in rows]
    assert [row.row_id for row in pickle.loads(pickle.dumps(rows))] == expected
    context = multiprocessing.get_context(start)
    queue = context.Queue()
    orders = [list(range(40)), list(range(39, -1, -1))]
    workers = [context.Process(target=read_all, args=(rows, order, queue)) for order in orders]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(results) == sorted([expected, expected[::-1]])


def test_tasks_are_told_without_reading_the_rows(tmp_path: Path, pictures: Path) -> None:
    rows = [{"kind": kind, "query_text": "q", "positive_text": "p"} for kind in ("a", "b", "", "a", "c")]
    (pictures / "deep" / "0.txt").write_text("one\ntwo")
    columns = {"task": "kind"}
    for source in (
        Source(str(write_parquet(tmp_path / "t.parquet", rows)), columns=columns),
        Source(str(write_lines(tmp_path / "t.jsonl", rows)), columns=columns, limit=3),
        Source(str(write_lines(tmp_path / "t.jsonl", rows)), columns=columns, task="mine"),
        Source(str(pictures)),
    ):
        pairs = open_pairs(source)
        assert list(pairs.tasks()) == [pair.task for pair in pairs]
