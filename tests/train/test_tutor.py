"""A teacher's places for texts in a model's own space, spellings beside them; and stage two by them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moca_rag.train.meanings import FROZEN, MEANING, Meanings, pull
from moca_rag.train.runs import run_cl
from moca_rag.train.settings import RunReport
from moca_rag.train.vocabulary import SIZE, count_meaning, normalize_rows
from safetensors.torch import load_file, save_file

from moca_rag.errors import ConfigError
from moca_rag.progress import SilentReporter
from moca_rag.records import Floats

DIMENSION = 64


def test_places_are_where_tokens_lie_that_mean_what_the_teacher_says() -> None:
    rng = np.random.default_rng(0)
    size, room = 48, count_meaning(48)
    turn = np.pad(np.linalg.qr(rng.normal(size=(room, room)))[0], ((0, 0), (0, 40 - room))).astype(np.float32)
    told = rng.normal(size=(300, 40)).astype(np.float32) * (np.arange(40) < room) + np.float32(0.5)
    table = rng.normal(size=(300, size)).astype(np.float32)
    table[:, :room] = (told - told.mean(axis=0)) @ turn.T  # as if each text were one token, and known
    texts = [np.array([number]) for number in range(300)]
    places = Meanings.fit(table, texts, told).place(texts, told).numpy()
    assert np.linalg.norm(places, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.square(places[:, :room]).sum(axis=1) == pytest.approx(MEANING, abs=1e-5)
    assert np.abs(places[:, -1]).max() == 0
    for part in (slice(0, room), slice(room, -1)):  # where the tokens themselves lie, so the teacher's cosines are kept
        np.testing.assert_allclose(normalize_rows(places[:, part]), normalize_rows(table[:, part]), atol=0.02)


def test_the_pull_is_the_mean_distance() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(pull(rows, torch.tensor([[1.0, 0.0], [0.0, -1.0]]))) == 1.0


class LetterTeacher:
    """Puts a text where its letters are."""

    dimension = DIMENSION

    def encode(self, texts: list[str]) -> Floats:
        rows = np.stack([np.bincount([ord(sign) % DIMENSION for sign in text], minlength=DIMENSION) for text in texts])
        unit: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


@pytest.fixture
def taught(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small model with the number that all tokens share, and a teacher."""
    monkeypatch.setattr("moca_rag.train.tutor.Teacher.open", lambda folder, half: LetterTeacher())
    folder = shutil.copytree(model, tmp_path / "taught")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "embed_tokens" in name)
    weights[name][:, -1] = SIZE
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(f"{one}{other}" for one in "abcdefg" for other in "hijklmn"))
    return path


def run(model: Path, words: Path, out: Path, *more: str) -> RunReport:
    frozen = f"frozen=[visual.*, {', '.join(FROZEN)}]"
    data = f"data=[{{path: {words}, format: lines, limit: 400}}]"
    chosen = [
        f"model={model}",
        data,
        f"out={out}",
        "batch_size=16",
        "learning_rate=3e-3",
        "held_out_steps=1000",
        frozen,
    ]
    return run_cl("tiny", [*chosen, *more], SilentReporter(), "cpu")


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_texts_come_nearer_to_where_they_are_put(taught: Path, words: Path, tmp_path: Path) -> None:
    run(taught, words, tmp_path / "out", "steps=24", "teacher=here", "teacher_pull=10", "save_steps=12")
    told = [line["teacher_distance"] for line in log(tmp_path / "out")]
    assert np.mean(told[-4:]) < 0.8 * np.mean(told[:4])


def test_a_run_that_was_cut_goes_on_to_the_same_places(taught: Path, words: Path, tmp_path: Path) -> None:
    options = ("teacher=here", "teacher_pull=10", "steps=4", "save_steps=2")
    whole = run(taught, words, tmp_path / "whole", *options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-00000004")
    settings = tmp_path / "cut" / "settings.yaml"
    settings.write_text(settings.read_text().replace(str(tmp_path / "whole"), str(tmp_path / "cut")))
    again = run(taught, words, tmp_path / "cut", *options)
    assert whole.checkpoint is not None and again.checkpoint is not None
    first, second = (load_file(report.checkpoint / "model.safetensors") for report in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    kept = [
        one["seconds"] == other["seconds"]
        for one, other in zip(*map(log, (tmp_path / "whole", tmp_path / "cut")), strict=True)
    ]
    assert kept == [True, True, False, False], "the run began anew"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["teacher_pull=1"], "needs a teacher"),
        (["teacher_pull=1", "teacher=here", "frozen=[visual.*]"], r"set frozen=\['language_model.embed_tokens"),
    ],
)
def test_a_pull_without_its_ground_is_refused(
    options: list[str], complaint: str, taught: Path, words: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run(taught, words, tmp_path / "out", "steps=2", *options)


def test_a_model_without_meanings_or_data_without_texts_is_refused(
    model: Path, taught: Path, words: Path, cl_rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="this is none"):
        run(model, words, tmp_path / "out", "steps=2", "teacher_pull=1", "teacher=here")
    pages = shutil.copytree(cl_rows.parent, tmp_path / "pairs") / cl_rows.name
    pages.write_text("\n".join(line for line in cl_rows.read_text().splitlines() if '"pages"' in line))
    with pytest.raises(ConfigError, match="needs texts in the data"):
        run(taught, words, tmp_path / "out", "steps=2", "teacher_pull=1", "teacher=here", f"data={pages}")
