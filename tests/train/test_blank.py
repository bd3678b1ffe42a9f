"""Both stages of a model that leaves out the blank cells of its pages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moca_rag.train.rows import IMAGE_SLOT
from moca_rag.train.runs import run_cl, run_cpt
from PIL import Image

from moca_rag.checkpoint import find_checkpoint, read_settings
from moca_rag.progress import SilentReporter
from tests.small_model import SENTENCES, write_small_model

NUM_BLANK = 10  # of a page's 16 cells


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pages, each with a sentence, as rows of both stages."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "images").mkdir()
    for number in range(6):
        page = np.full((16, 28, 28, 3), 255, np.uint8)
        generator = np.random.default_rng(number)
        page[generator.permutation(16)[NUM_BLANK:]] = generator.integers(0, 256, (16 - NUM_BLANK, 28, 28, 3))
        picture = Image.fromarray(page.reshape(4, 4, 28, 28, 3).transpose(0, 2, 1, 3, 4).reshape(112, 112, 3))
        picture.save(folder / "images" / f"{number}.png")
    rows = {"cpt": [], "cl": []}
    for number in range(6):
        text, images = f"{IMAGE_SLOT} {SENTENCES[number % 5]}", [f"{number}.png"]
        rows["cpt"].append({"text": text, "images": images})
        rows["cl"].append({"query_text": f"{number}: {SENTENCES[number % 5]}", "positive_text": IMAGE_SLOT})
        rows["cl"][-1]["positive_images"] = images
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.mark.parametrize("stage", ["cpt", "cl"])
def test_blank_cells_are_no_tokens_and_the_trained_model_leaves_them_out_too(
    stage: str, rows: Path, tmp_path: Path
) -> None:
    tokens = {}
    for drop in (False, True):
        model, out = write_small_model(tmp_path / f"model-{drop}"), tmp_path / f"run-{drop}"
        settings = {"min_pixels": 4 * 784, "max_pixels": 16 * 784, "drop_blank": drop}
        (model / "moca.json").write_text(json.dumps(settings))
        words = [f"model={model}", f"data={rows / stage}.jsonl", f"out={out}", "steps=1"]
        words += ["batch_size=6"] if stage == "cl" else ["batch_tokens=10000"]
        run: Any = {"cpt": run_cpt, "cl": run_cl}[stage]
        report = run("tiny", words, SilentReporter(), "cpu")
        assert read_settings(find_checkpoint(report.checkpoint)).drop_blank is drop
        [line] = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert np.isfinite(line["loss"])
        tokens[drop] = line["tokens"]
    assert tokens[False] - tokens[True] == 6 * NUM_BLANK
