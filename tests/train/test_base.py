"""Stage zero as a whole: from documents and fonts to a model that reads, through pauses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moca_rag.train.base import count_words
from moca_rag.train.lessons import LessonRates, LessonSupply, open_lessons
from moca_rag.train.letters import code_words
from moca_rag.train.reader import LessonPack
from moca_rag.train.runs import CONFIGS, find_config, run_base
from moca_rag.train.settings import RunReport

from moca_rag.checkpoint import read_card
from moca_rag.errors import ConfigError
from moca_rag.inputs import Pack
from moca_rag.progress import SilentReporter
from tests.fonts import write_fonts
from tests.packs import load
from tests.small_documents import write_small_documents


@pytest.fixture(scope="module")
def supply(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supply")
    write_small_documents(folder / "texts.jsonl.gz")
    (folder / "fonts").mkdir()
    write_fonts(folder / "fonts")
    return folder


def run(model: Path, supply: Path, out: Path, *words: str, config: str = "tiny-read") -> RunReport:
    sources = [f"documents={supply / 'texts.jsonl.gz'}", f"faces={supply / 'fonts'}", f"model={model}", f"out={out}"]
    settings = ["batch_size=4", "pack_tokens=200", "half=false", "log_steps=1", *words]
    return run_base(config, [*sources, *settings], SilentReporter(), "cpu")


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_crops_teach_the_tower_and_leave_the_text_layers(model: Path, supply: Path, tmp_path: Path) -> None:
    report = run(model, supply, tmp_path / "run", "steps=4", f"held_out_documents={supply / 'texts.jsonl.gz'}")
    lines = log(tmp_path / "run")
    assert {"letter_loss", "word_loss", "letter_f1", "held_out_letter_f1", "held_out_words_read"} <= lines[-1].keys()
    assert report.checkpoint is not None
    before, after = load(model).state_dict(), load(report.checkpoint).state_dict()
    changed = {name.split(".")[0] for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {"visual"}
    assert read_card(report.checkpoint).pooling == "last"


def test_whole_pages_are_read_on_and_teach_everything(model: Path, supply: Path, tmp_path: Path) -> None:
    report = run(model, supply, tmp_path / "run", "steps=2", "pages=1.0", "max_tokens=1200")
    assert {"token_loss", "token_accuracy"} <= log(tmp_path / "run")[0].keys()
    assert report.checkpoint is not None
    before, after = load(model).state_dict(), load(report.checkpoint).state_dict()
    assert {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])} == {
        "visual",
        "language_model",
    }


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(model: Path, supply: Path, tmp_path: Path) -> None:
    run(model, supply, tmp_path / "whole", "steps=4")
    for steps in (2, 4):
        (tmp_path / "cut" / "settings.yaml").unlink(missing_ok=True)
        run(model, supply, tmp_path / "cut", f"steps={steps}", "warmup=1.0")
    whole, cut = log(tmp_path / "whole"), log(tmp_path / "cut")
    assert [line["letter_loss"] for line in cut][:1] == [line["letter_loss"] for line in whole][:1]
    assert [line["step"] for line in cut] == [1, 2, 3, 4]


def test_a_run_needs_nothing_of_the_checkpoint_that_it_went_on_from(model: Path, supply: Path, tmp_path: Path) -> None:
    held_out = f"held_out_documents={supply / 'texts.jsonl.gz'}"
    for steps in (1, 4):
        (tmp_path / "settings.yaml").unlink(missing_ok=True)
        report = run(model, supply, tmp_path, f"steps={steps}", "save_steps=1", "keep=1", held_out)
    assert report.checkpoint is not None
    assert read_card(report.checkpoint).pooling == "last"


def test_a_lesson_is_made_of_its_number_and_seed_alone(model: Path, supply: Path) -> None:
    tokens, words = load(model).shape.tokens, model / "tokenizer.json"

    def make(seed: int, rates: LessonRates) -> LessonSupply:
        return LessonSupply(supply / "texts.jsonl.gz", supply / "fonts", words, tokens, 1024, rates, seed)

    for rates in (LessonRates(), LessonRates(pages=1.0, scans=0.5)):
        one, two, other = (open_lessons(make(seed, rates)) for seed in (0, 0, 1))
        two(7)
        for number in (3, 0):
            left, right, strange = one(number), two(number), other(number)
            assert np.array_equal(left[0].patches, right[0].patches) and left[1].words == right[1].words
            assert not np.array_equal(left[0].patches, strange[0].patches)
    assert make(0, LessonRates()).fingerprint() == make(1, LessonRates()).fingerprint()
    assert make(0, LessonRates()).fingerprint() != make(0, LessonRates(scans=1.0)).fingerprint()


def test_a_crew_builds_what_one_process_builds(model: Path, supply: Path, tmp_path: Path) -> None:
    for number in (0, 2):
        run(model, supply, tmp_path / str(number), "steps=2", f"workers={number}")
    assert [line["loss"] for line in log(tmp_path / "0")] == [line["loss"] for line in log(tmp_path / "2")]


def test_words_count_as_read_where_their_codes_come_first_in_their_cell() -> None:
    none = np.zeros(0, np.int64)
    pack = LessonPack(
        Pack(none, none.reshape(3, 0), np.zeros((8, 588), np.uint8), (), ()),
        letters=torch.zeros(0, 2, dtype=torch.long),
        cells=torch.tensor([0, 0, 1]),
        codes=torch.from_numpy(code_words(["coal", "iron", "wool"])),
        words=("coal", "iron", "wool"),
        tokens=torch.zeros(0, 2, dtype=torch.long),
    )
    choices = ["coal", "iron", "tea", "wool"]
    both = torch.from_numpy(code_words(["coal"]) + code_words(["iron"]))
    tea = torch.from_numpy(code_words(["tea"]))
    assert count_words(torch.cat([both, tea]), pack, choices) == (2, 3)
    assert count_words(torch.cat([tea + both, both]), pack, ["coal", "tea", "wool"]) == (1, 2)


def test_what_is_missing_is_named(model: Path, tmp_path: Path) -> None:
    for words, message in (([f"model={model}"], "made by moca data corpus"), ([], "moca model new makes one")):
        with pytest.raises(ConfigError, match=message):
            run_base("tiny-read", [*words, f"out={tmp_path}"], SilentReporter(), "cpu")


def test_lessons_without_an_end_are_refused(model: Path, supply: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set steps=N"):
        run(model, supply, tmp_path / "run", "steps=0")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "base").glob("*.yaml")))
def test_every_preset_runs_two_steps(name: str, model: Path, supply: Path, tmp_path: Path) -> None:
    assert find_config(name, "base").is_file()
    report = run(model, supply, tmp_path / "run", "steps=2", "batch_size=1", "max_tokens=1200", config=name)
    assert report.steps == 2


def test_sizes_that_are_no_range_are_refused(model: Path, supply: Path, tmp_path: Path) -> None:
    for sizes in ("[8]", "[20, 8]", "[1, 8]"):
        with pytest.raises(ConfigError, match="the least and the largest in pixels"):
            run(model, supply, tmp_path, "steps=1", f"crop_sizes={sizes}")
