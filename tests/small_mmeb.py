"""Writes small copies of MMEB, laid out as on the hub: rows in parquet files, pictures in one zip."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
from PIL import Image

from tests.fakes import COLOURS

SLOT = "<|image_1|>"


def make_row(query: str, picture: str, texts: Sequence[str], pictures: Sequence[str] = ()) -> dict[str, Any]:
    """One row, the right candidate first."""
    paths = list(pictures) or [""] * len(texts)
    return {"qry_text": query, "qry_img_path": picture, "tgt_text": list(texts), "tgt_img_path": paths}


def colour_rows(task: str) -> list[dict[str, Any]]:
    """Three rows: a picture of one colour, and the names of three; the last row has the wrong one first."""
    ask = f"{SLOT}\nRepresent the given image with the following question: What colour is it?\n"
    answers = {"red": ["red", "green", "blue"], "green": ["green", "blue", "red"], "blue": ["red", "blue", "green"]}
    return [make_row(ask, f"{task}/{colour}.png", texts) for colour, texts in answers.items()]


def picture_rows(task: str) -> list[dict[str, Any]]:
    """Three rows: the name of a colour, and pictures of three."""
    names = ["red", "green", "blue"]
    prompts = [f"{SLOT}\nRepresent the given image.\n"] * 3
    return [
        make_row(f"Find an image of {name} .\n", "", prompts, [f"{task}/{other}.png" for other in turn(names, place)])
        for place, name in enumerate(names)
    ]


def turn(names: Sequence[str], place: int) -> list[str]:
    """The names from one place on, and round."""
    return [*names[place:], *names[:place]]


def write_rows(folder: Path, task: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """The parquet file of a task."""
    path = folder / task / "test-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def write_mmeb(folder: Path, tasks: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """A copy with these tasks, and for each task a picture of every colour."""
    with zipfile.ZipFile(open_new(folder / "images.zip"), "w") as pictures:
        for task, rows in tasks.items():
            write_rows(folder, task, rows)
            for name in COLOURS:
                pictures.writestr(f"{task}/{name}.png", draw_png(name))
    return folder


def open_new(path: Path) -> Path:
    """The path, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def draw_png(colour: str, size: tuple[int, int] = (84, 56)) -> bytes:
    """A picture of one colour."""
    content = io.BytesIO()
    Image.new("RGB", size, tuple(round(255 * part) for part in COLOURS[colour])).save(content, "PNG")
    return content.getvalue()
