"""Writes small copies of published data sets, laid out as on the hub: <owner>/<name>/..., a mix of them, and kills runs.

    python -m tests.small_datasets SETS OUT STAGE N

prepares the mix in SETS and leaves by SIGKILL at the N-th thing that the reporter is told of.
"""

import io
import os
import signal
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import yaml
from fsspec.implementations.local import LocalFileSystem
from moca_rag.train import mixes, pieces
from moca_rag.train.hub import Place
from moca_rag.train.mixes import PrepareReport, load_mix
from moca_rag.train.prepare import prepare_rows
from moca_rag.train.rows import IMAGE_SLOT
from PIL import Image

from moca_rag.progress import SilentReporter

SMALL_SHARD, SMALL_LINES = 60_000, 300  # bytes: several shards of a few rows

PAIRS = "moca-embed/MoCa-CL-Pairs"
ZIPPED = {"path": f"{PAIRS}/CIRR/*.parquet", "format": "moca-cl-pairs"}
ZIPPED |= {"images": "TIGER-Lab/MMEB-train/images_zip/CIRR.zip"}
CUT = {"path": f"{PAIRS}/TAT-DQA/*.parquet", "format": "moca-cl-pairs"}
CUT |= {"images": f"{PAIRS}/supplement_images_zip/TAT-DQA.tar.gz.part_*"}


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], group: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path, row_group_size=group)
    return path


def cpt_row(number: int) -> dict[str, Any]:
    return {"text": f"{IMAGE_SLOT}\nrow {number}", "images": [png(number)]}


def write_cpt_set(folder: Path, files: int = 3, rows: int = 20) -> Path:
    """`files` tables of `rows` rows each, in row groups of five, numbered through."""
    for number in range(files):
        table = [cpt_row(number * rows + row) for row in range(rows)]
        write_table(folder / "data" / f"train-{number:05}-of-{files:05}.parquet", table)
    return folder


def write_paper_sets(folder: Path) -> Path:
    """A few rows of each set of stage one, and of the two of stage two that the help of `moca data prepare` names."""
    for one in load_mix("cpt").sets:
        write_table(folder / one.path.replace("*", "00000-of-00001"), [cpt_row(number) for number in range(6)])
    write_pairs(folder, "CIRR")
    answers = [
        {"query": f"why {row}", "positive": [f"so {row}", "no"], "negative": ["a", "b", "c"]} for row in range(6)
    ]
    write_table(folder / "BeastyZ/E5-R/nq/train-00000-of-00001.parquet", answers)
    return folder


def pair_row(name: str, number: int) -> dict[str, Any]:
    """A row of MoCa-CL-Pairs: an image asks for another, two more are its negatives."""
    other = [f"images/{name}/{number + step}.png" for step in (1, 2, 3)]
    return {
        "qry": f"<|image_1|>\nWhich is next to {number}?",
        "qry_image_path": f"images/{name}/{number}.png",
        "pos_text": "<|image_1|>",
        "pos_image_path": other[0],
        "neg_text": repr(["<|image_1|>", "<|image_1|>", "never read"]),
        "neg_image_path": repr([other[1], other[2], "images/nowhere.png"]),
    }


def write_pairs(folder: Path, name: str, kind: str = "zip", rows: int = 12, missing: Sequence[int] = ()) -> Path:
    """Pairs and the archive of their images, as MMEB's zip, or as a packed tar that may be cut in parts."""
    write_table(
        folder / f"moca-embed/MoCa-CL-Pairs/{name}/train-00000-of-00001.parquet",
        [pair_row(name, row) for row in range(rows)],
    )
    files = {f"{name}/{number}.png": png(number) for number in range(rows + 3) if number not in missing}
    files[f"{name}/unused.png"] = png(999)
    if kind == "zip":
        path = folder / f"TIGER-Lab/MMEB-train/images_zip/{name}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for file, data in reversed(files.items()):
                archive.writestr(file, data)
        return path
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for file, data in files.items():
            member = tarfile.TarInfo(f"./{file}")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    path = folder / f"moca-embed/MoCa-CL-Pairs/supplement_images_zip/{name}.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = len(buffer.getvalue()) // 2 if kind == "parts" else len(buffer.getvalue())
    for part, data in zip(("aa", "ab"), (buffer.getvalue()[:cut], buffer.getvalue()[cut:]), strict=True):
        if data:
            (path.with_name(f"{path.name}.part_{part}") if kind == "parts" else path).write_bytes(data)
    return path


def write_mix(path: Path, sets: Sequence[Mapping[str, Any]], **settings: Any) -> Path:
    path.write_text(yaml.safe_dump({**settings, "sets": [dict(one) for one in sets]}))
    return path


def write_sets(folder: Path) -> Path:
    """Copies of two sets of stage one, tables and lines, and of three of stage two; and a mix for each stage."""
    write_cpt_set(folder / "owner/pages")
    lines = folder / "owner/lines/some.jsonl"
    lines.parent.mkdir(parents=True)
    lines.write_text("".join(f'{{"text": "line {number} {"é" * (number % 7)}"}}\n' for number in range(40)))
    write_pairs(folder, "CIRR")
    write_pairs(folder, "TAT-DQA", "parts")
    answers = [{"query": f"why {row}", "pos": [f"so {row}", "no"], "neg": ["a", "b", "c"]} for row in range(30)]
    write_table(folder / "owner/texts/data/nq-00000.parquet", answers)
    columns = {"query_text": "query", "positive_text": "pos.0", "negative_texts": "neg"}
    texts = {"path": "owner/texts/data/nq-*.parquet", "columns": columns, "instruction": "Find it."}
    write_mix(folder / "cpt.yaml", [{"path": "owner/pages/data/*.parquet"}, {"path": "owner/lines/*.jsonl"}], rows=30)
    write_mix(folder / "cl.yaml", [ZIPPED, CUT, texts], rows=10, draw="first")
    return folder


def build(sets: Path, out: Path, stage: Any = "cpt", rows: int | None = None, **options: Any) -> PrepareReport:
    """Prepare the stage's mix in `sets`, out of `sets` unless `data` says otherwise."""
    mix = load_mix(stage, sets / f"{stage}.yaml", rows=rows, seed=options.pop("seed", None))
    return prepare_rows(stage, out, mix, data=options.pop("data", sets), **options)


def read_files(out: Path) -> dict[str, bytes]:
    """Everything that was written, by name, but for the lock, which knows the process."""
    paths = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


class CountedFile(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: str, counts: dict[str, int]) -> None:
        super().__init__(path)
        self._counts, self._path = counts, path

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size) or b""
        self._counts[self._path] = self._counts.get(self._path, 0) + len(data)
        return data


class FakeHub:
    """A hub whose files lie in a folder; it counts what is read of them."""

    def __init__(self, folder: Path) -> None:
        self.counts: dict[str, int] = {}
        self._folder = folder
        hub = self

        class System(LocalFileSystem):
            cachable = False

            def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
                return CountedFile(path, hub.counts)

        self._system = System()

    def __call__(self, repository: str, revision: str) -> Place:
        if not (self._folder / repository).is_dir():
            raise FileNotFoundError(repository)
        return Place("hub", self._system, str(self._folder / repository), revision or "c0ffee")


class KillingReporter(SilentReporter):
    """Leaves at the n-th thing that it is told of, with no time to tidy up."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def advance(self, task: str, amount: int = 1) -> None:
        self._steps -= 1
        if not self._steps:
            os.kill(os.getpid(), signal.SIGKILL)


def main(sets: str, out: str, stage: Any, steps: str) -> None:
    mixes.SHARD_BYTES, pieces.LINES_BYTES = SMALL_SHARD, SMALL_LINES
    mix = load_mix(stage, Path(sets) / f"{stage}.yaml")
    prepare_rows(stage, Path(out), mix, data=Path(sets), reporter=KillingReporter(int(steps)))


if __name__ == "__main__":
    main(*sys.argv[1:])
