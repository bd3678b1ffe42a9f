"""What a run shows: pictures hidden and restored pixel by pixel, sentences with what the model put into them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from moca_rag.train.corruption import CorruptedRow, MaskRates, corrupt_row
from moca_rag.train.reconstruction import CorruptedPack, Objective, Reconstruction
from moca_rag.train.rows import IMAGE_SLOT, split_parts
from moca_rag.train.showing import GREY, Restored, join_patches, read_sentence, view_images
from PIL import Image

from moca_rag.checkpoint import find_checkpoint
from moca_rag.inputs import SequenceBuilder, load_tokenizer
from moca_rag.loader import load_backbone
from moca_rag.pixels import Grid, normalise_patches, patchify
from moca_rag.records import PixelBudget
from tests.train.conftest import png
from tests.train.test_cpt import log, run

BUDGET = PixelBudget(4 * 784, 16 * 784)
PICTURES = (png(2, 3, 1), png(4, 2, 2))


def corrupt(model: Path, text: str, images: tuple[bytes, ...] = PICTURES) -> CorruptedRow:
    checkpoint = find_checkpoint(str(model))
    tokenizer = load_tokenizer(checkpoint.file("tokenizer.json"))
    tokens = load_backbone(checkpoint, torch.device("cpu"), torch.float32).shape.tokens
    builder = SequenceBuilder(tokenizer, tokens, BUDGET, 500, tells=False)
    sequence = builder.build(split_parts(text, images, BUDGET))
    kept = set(tokenizer.get_added_tokens_decoder())
    return corrupt_row(sequence, "a", MaskRates(), tokenizer.token_to_id("<|mask|>"), kept, 0, 0)


def test_a_cell_that_was_not_read_is_white() -> None:
    cells = np.arange(2 * 4 * 588, dtype=np.int64).astype(np.uint8).reshape(2, 4, 588)
    image = join_patches(cells, Grid(4, 4, (1, 2)))
    assert np.array_equal(patchify(image).reshape(4, 4, 588)[[1, 2]], cells)
    assert (image[:28, :28] == 255).all()
    assert (image[28:, 28:] == 255).all()


def know(row: CorruptedRow) -> Restored:
    """What a model that knows everything would restore."""
    cells = normalise_patches(row.sequence.patches).reshape(-1, 4704)
    return Restored(row.targets.copy(), cells[row.hidden])


def see(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_what_is_restored_rightly_is_the_picture_itself(model: Path) -> None:
    row = corrupt(model, f"one {IMAGE_SLOT} two {IMAGE_SLOT}")
    views = view_images(row, know(row))
    assert len(views) == 2
    for (original, hidden, restored), data in zip(views, PICTURES, strict=True):
        assert np.array_equal(original, see(data))
        assert np.array_equal(restored, original)
        grey = (hidden == GREY).all(axis=-1)
        assert np.array_equal(hidden[~grey], original[~grey])
    cells = [view[1].reshape(-1, 28, view[1].shape[1] // 28, 28, 3).transpose(0, 2, 1, 3, 4) for view in views]
    grey_cells = [(cell.reshape(-1, 28 * 28 * 3) == GREY).all(axis=1) for cell in cells]
    assert np.flatnonzero(np.concatenate(grey_cells)).tolist() == row.hidden.tolist()


def test_what_is_restored_wrongly_stands_in_hidden_cells_only(model: Path) -> None:
    row = corrupt(model, f"{IMAGE_SLOT} {IMAGE_SLOT}")
    wrong = Restored(row.targets, np.full((len(row.hidden), 4704), 99.0, np.float32))
    for original, hidden, restored in view_images(row, wrong):
        grey = (hidden == GREY).all(axis=-1)
        assert (restored[grey] == 255).all()
        assert np.array_equal(restored[~grey], original[~grey])


def test_a_sentence_tells_what_was_found_and_what_was_missed(model: Path) -> None:
    text = "What was the revenue of the energy division in the third quarter?"
    row = corrupt(model, f"{text}{IMAGE_SLOT}", PICTURES[:1])
    tokenizer = load_tokenizer(model / "tokenizer.json")
    unseen = {*tokenizer.get_added_tokens_decoder()}
    known = know(row)
    right = read_sentence(row, known, tokenizer, unseen)
    assert "".join(piece.text for piece in right) == text
    assert {piece.mark for piece in right} == {"shown", "found"}
    known.ids[0] = tokenizer.token_to_id("Z")
    pieces = read_sentence(row, known, tokenizer, unseen)
    (missed,) = [piece for piece in pieces if piece.mark == "missed"]
    assert missed.guess == "Z"
    assert missed.text == tokenizer.decode([int(row.targets[0])])
    assert sum(piece.mark == "found" for piece in pieces) == len(row.masked) - 1
    assert f"[Z, not {missed.text}]" in "".join(map(str, pieces))


@pytest.mark.parametrize("shift", [True, False])
def test_what_is_restored_is_what_the_losses_judge(model: Path, shift: bool) -> None:
    backbone = load_backbone(find_checkpoint(str(model)), torch.device("cpu"), torch.float32)
    backbone.load_vision()
    torch.manual_seed(0)
    module = Reconstruction(backbone, None, Objective(shift=shift, logit_rows=5))
    row = corrupt(model, f"How the price of copper fell {IMAGE_SLOT} after the harvest {IMAGE_SLOT} and rose again")
    with torch.no_grad():
        batch = CorruptedPack.of([row])
        losses = module(batch)
        # With the guesses as targets every one of them is right.
        guesses = module.restore(batch)
        own = CorruptedPack(batch.pack, batch.masked, guesses.ids, batch.hidden, batch.noise_seeds, batch.num_counted)
        assert int(module(own).num_right) == len(row.masked)
    wanted = torch.from_numpy(know(row).pixels)
    assert float((guesses.pixels - wanted).square().sum()) == pytest.approx(float(losses.mae), rel=1e-5)


def test_pictures_come_at_their_steps_and_at_the_end(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    run(model, cpt_rows, tmp_path / "seen", "steps=3", "show_steps=2")
    names = sorted(path.name for path in (tmp_path / "seen" / "shown").iterdir())
    assert names == [f"step-00000{step}.{kind}" for step in (2, 3) for kind in ("png", "txt")]
    with Image.open(tmp_path / "seen" / "shown" / "step-000002.png") as sheet:
        assert sheet.width == 1200
        assert (GREY,) * 3 in {colour for _, colour in sheet.getcolors(1 << 24) or []}
    told = (tmp_path / "seen" / "shown" / "step-000002.txt").read_text(encoding="utf-8").splitlines()
    assert len(told) == 4
    assert all(line.startswith("R") and ", not " in line for line in told)
    run(model, cpt_rows, tmp_path / "blind", "steps=3", "show_steps=0")
    assert not (tmp_path / "blind" / "shown").exists()
    assert [line["loss"] for line in log(tmp_path / "seen")] == [line["loss"] for line in log(tmp_path / "blind")]


def test_held_out_rows_are_shown_rather_than_those_to_learn_from(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    (tmp_path / "aside.jsonl").write_text('{"text": "Set aside to be judged by, and to be shown to a person"}')
    run(model, cpt_rows, tmp_path / "run", "steps=1", f"held_out={tmp_path / 'aside.jsonl'}")
    (line,) = (tmp_path / "run" / "shown" / "step-000001.txt").read_text(encoding="utf-8").splitlines()
    assert line.startswith("S")


def test_two_processes_show_what_one_does(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    run(model, cpt_rows, tmp_path / "one", "steps=1", "max_tokens=300")
    words = [f"model={model}", f"data={cpt_rows}", f"out={tmp_path / 'two'}", "batch_tokens=600", "pack_tokens=250"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command += ["moca_rag.train", "cpt", "tiny", *words, "learning_rate=3e-3", "steps=1", "max_tokens=300"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        [*command, "--device", "cpu"], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (tmp_path / name / "shown" / "step-000001.txt" for name in ("one", "two"))
    assert two.read_text(encoding="utf-8") == one.read_text(encoding="utf-8")
