"""What decides a collection's content, kept in `collection.toml`, so that two settings are never mixed in one."""

import json
import os
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .errors import CollectionError, ConfigError, FingerprintError
from .records import CollectionMode, FusionWeights, ModelCard, PixelBudget
from .terms import VERSION as TERMS_VERSION

FILE_NAME = "collection.toml"
FORMAT = 1
OF_SEARCH = "weights."  # which decide nothing that lies in a collection
RETIRED = ("vision_weight", "wordless_weight")  # of search, too: what stood under [model] before there were weights


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Mode, renderer, text analysis and model of a collection. A text collection has no model.

    `passages`: whether the passages of each page's text are embedded too, as only a hybrid collection's can be.
    """

    mode: CollectionMode
    renderer: str
    renderer_version: str
    terms: int = TERMS_VERSION
    model: ModelCard | None = None
    passages: bool = False

    def differences(self, other: "Fingerprint") -> list[str]:
        """What differs, a line each: `name: here -> there`. A renderer's patch releases count as equal."""
        mine, theirs = self._values(), other._values()
        if (self.model is None) != (other.model is None):
            shared = mine.keys() & theirs.keys()
            mine = {key: mine[key] for key in mine if key in shared} | {"model": _name(self.model)}
            theirs = {key: theirs[key] for key in theirs if key in shared} | {"model": _name(other.model)}
        return [f"{key}: {_show(mine[key])} -> {_show(theirs[key])}" for key in mine if mine[key] != theirs[key]]

    def check_model(self, card: ModelCard, collection: Path) -> None:
        """Raises FingerprintError where a collection was embedded by another model than this one."""
        check_fingerprint(self, replace(self, model=card), collection)

    def _values(self) -> dict[str, Any]:
        values = _flat(self)
        values["renderer.version"] = ".".join(str(values["renderer.version"]).split(".")[:2])
        # the same weights from another folder are the same model; without one there is no choice about passages
        values.pop("passages" if self.model is None else "model.name")
        return {key: value for key, value in values.items() if not key.startswith(OF_SEARCH)}


def _show(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _name(model: ModelCard | None) -> str:
    return "none" if model is None else model.name


def _flat(fingerprint: Fingerprint) -> dict[str, Any]:
    values: dict[str, Any] = {
        "mode": fingerprint.mode,
        "passages": fingerprint.passages,
        "renderer.name": fingerprint.renderer,
        "renderer.version": fingerprint.renderer_version,
        "text.terms": fingerprint.terms,
    }
    if fingerprint.model is not None:
        card = asdict(fingerprint.model)
        pixels, weights = card.pop("pixels"), card.pop("weights")
        values |= {f"model.{key}": value for key, value in card.items()}
        values |= {f"pixels.{key}": value for key, value in pixels.items()}
        values |= {f"{OF_SEARCH}{key}": value for key, value in weights.items()}
    return values


def check_fingerprint(here: Fingerprint, wanted: Fingerprint, collection: Path) -> None:
    """Raises FingerprintError, saying what differs and which command makes the collection anew."""
    differences = here.differences(wanted)
    if differences:
        option = " --mode text" if wanted.model is None else f" --model {wanted.model.name}"
        if here.passages != wanted.passages and here.mode == wanted.mode:
            option += f" --set passages={_show(wanted.passages)}"
        raise FingerprintError(
            f"{collection} was made with other settings ({'; '.join(differences)}): "
            f"use the same, another --collection, or make it anew with `moca index --rebuild{option}`"
        )


def write_fingerprint(folder: Path, fingerprint: Fingerprint) -> None:
    """Write `collection.toml`, whole or not at all."""
    lines = ["# Made by moca_rag; a collection is read with the settings it was made with.", f"format = {FORMAT}"]
    table = ""
    for key, value in _flat(fingerprint).items():
        head, _, name = key.rpartition(".")
        if head != table:
            lines.extend(["", f"[{head}]"])
            table = head
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    path = folder / FILE_NAME
    draft = path.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def read_fingerprint(folder: Path) -> Fingerprint:
    """Read `collection.toml`; one from before there were passages has none. Raises CollectionError if it is damaged."""
    path = folder / FILE_NAME
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise CollectionError(f"{path} has format {values['format']}, this program reads {FORMAT}: use --rebuild")
        model = None
        if "model" in values:
            card = {key: value for key, value in values["model"].items() if key not in RETIRED}
            weights = FusionWeights(**values.get("weights", {}))
            model = ModelCard(**card, pixels=PixelBudget(**values["pixels"]), weights=weights)
        renderer, terms, passages = values["renderer"], values["text"]["terms"], values.get("passages", False)
        if not isinstance(passages, bool):
            raise TypeError(f"passages is {passages!r}")
        return Fingerprint(values["mode"], renderer["name"], renderer["version"], terms, model, passages)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CollectionError(f"{path} is damaged ({error}): make the collection anew with `--rebuild`") from error
