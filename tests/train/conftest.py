"""A small model and rows to train it on."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from moca_rag.train.rows import IMAGE_SLOT
from PIL import Image

from tests.small_model import SENTENCES, write_small_model


def png(rows: int, columns: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (28 * rows, 28 * columns, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_small_model(tmp_path_factory.mktemp("model"))
    (folder / "moca.json").write_text(json.dumps({"min_pixels": 4 * 784, "max_pixels": 16 * 784}))
    return folder


@pytest.fixture(scope="session")
def cpt_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty rows of text and pictures in a folder of pictures beside a table."""
    folder = tmp_path_factory.mktemp("rows")
    lines = []
    for number in range(20):
        images = [png(2 + number % 3, 3, 10 * number + place) for place in range(number % 3)]
        names = []
        for place, image in enumerate(images):
            (folder / "images").mkdir(exist_ok=True)
            (folder / "images" / f"{number}-{place}.png").write_bytes(image)
            names.append(f"{number}-{place}.png")
        text = f"Row {number}. {SENTENCES[number % 5]} " + " and ".join([IMAGE_SLOT] * len(images)) + SENTENCES[2]
        lines.append(json.dumps({"text": text, "images": names}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder / "rows.jsonl"


@pytest.fixture(scope="session")
def cl_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pairs of three tasks: texts that ask for pictures and for texts, some with hard negatives."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "images").mkdir()
    lines = []
    for number in range(24):
        name = f"{number}.png"
        (folder / "images" / name).write_bytes(png(2 + number % 3, 3, number))
        task = ("pages", "texts", "labels")[number % 3]
        line = {"task": task, "query_text": f"Question {number}: {SENTENCES[number % 5]}"}
        if task == "pages":
            line |= {"positive_images": [name], "positive_text": f"{IMAGE_SLOT}\nRepresent the given document image."}
            line |= {"negative_texts": [f"{IMAGE_SLOT} other"], "negative_images": [[f"{max(0, number - 3)}.png"]]}
        elif task == "texts":
            line |= {"positive_text": f"Answer {number} of the energy division", "negative_texts": ["copper", "bridge"]}
        else:
            line |= {"positive_text": ("a table", "a chart")[number % 2]}
        lines.append(json.dumps(line))
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return folder / "pairs.jsonl"
