"""The trial of an export by another program: what it sees, and what comes of an export that it does not bear out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moca_rag import export as exporting
from moca_rag.errors import ModelError
from moca_rag.export import export_model
from moca_rag.trial import Trial, embed_here, try_folder
from tests.small_model import write_small_model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model"))


def test_the_proof_sees_a_padded_row_turn_causal(source: Path, tmp_path: Path) -> None:
    folder = export_model(source, tmp_path / "out", format="qwen", dtype="float32", check=False).folder
    values = json.loads((folder / "config.json").read_text())
    del values["text_config"]["is_causal"]
    (folder / "config.json").write_text(json.dumps(values))
    trial = try_folder(folder, "qwen", embed_here(source))
    assert trial.difference is not None and trial.difference > 0.01


@pytest.mark.parametrize(
    ("trial", "dtype"),
    [
        (Trial("x 1.0", 2e-3, 0.99999), "float32"),
        (Trial("x 1.0", float("nan"), float("nan")), "float32"),
        (Trial("x 1.0", 2e-3, 0.998), "bfloat16"),
        (Trial("x 1.0", float("nan"), float("nan")), "float16"),
    ],
)
def test_other_embeddings_refuse_the_export_and_leave_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: Trial, dtype: Any
) -> None:
    seen: list[bool] = []

    def answer(folder: Path, *_: Any) -> Trial:
        seen.append((tmp_path / "out").exists() or not (folder / "model.safetensors").is_file())
        return trial

    monkeypatch.setattr(exporting, "try_folder", answer)
    with pytest.raises(ModelError, match=r"x 1\.0 makes other embeddings .* nothing was written"):
        export_model(source, tmp_path / "out", format="qwen", dtype=dtype)
    assert seen == [False], "a folder stands under its name only when it is proven"
    assert list(tmp_path.iterdir()) == []


def test_embeddings_that_are_close_are_taken(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "try_folder", lambda *_: Trial("x 1.0", 2e-3, 0.9995))
    assert export_model(source, tmp_path / "out", format="qwen", dtype="bfloat16").trial.cosine == 0.9995


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("raise ImportError('it lacks\\n something')", "x 1.0 cannot run here: it lacks something"),
        ("import os; os.kill(os.getpid(), 9)", "x 1.0 was killed by signal 9: too little memory?"),
        ("raise ValueError('a new layout')", None),
    ],
)
def test_a_reader_that_cannot_run_is_told_from_a_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, outcome: str | None
) -> None:
    (tmp_path / "sentence_transformers.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("moca_rag.trial.version", lambda _: "1.0")
    monkeypatch.setattr("moca_rag.trial.READERS", {"sentence-transformers": "x"})
    rows = np.zeros((4, 64), np.float32)
    if outcome is None:
        with pytest.raises(ModelError, match=r"x 1\.0 cannot load what was exported \(ValueError: a new layout\)"):
            try_folder(tmp_path, "sentence-transformers", rows)
    else:
        assert try_folder(tmp_path, "sentence-transformers", rows) == Trial("x 1.0", unchecked=outcome)


def test_an_export_that_cannot_be_proven_says_why(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "has_reader", lambda _: False)
    trial = export_model(source, tmp_path / "out").trial
    assert trial.unchecked == "sentence-transformers is not installed"
    assert export_model(source, tmp_path / "two", check=False).trial.unchecked == "not asked for"
