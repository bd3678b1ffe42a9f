"""The commands `moca status`, `moca verify` and `moca compact`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moca_rag.collection import Collection, default_path
from moca_rag.fingerprint import Fingerprint
from moca_rag.records import Failure
from moca_rag.upkeep import (
    Compaction,
    Verdict,
    compact_collection,
    count_stale,
    folder_bytes,
    verify_collection,
)

from .options import CollectionOption, JsonOption


@dataclass(frozen=True, slots=True)
class Status:
    """A collection as it stands."""

    path: Path
    fingerprint: Fingerprint
    counts: dict[str, int]
    size: int
    roots: list[Path]
    stale: list[str]
    failures: list[Failure]


def status(ctx: typer.Context, collection: CollectionOption = None, as_json: JsonOption = False) -> Status:
    """What is indexed, what is stale, what failed and why.

    \b
    Examples:
      moca status
      moca status --json
    """
    ctx.obj.as_json = as_json
    with Collection.open(collection) as opened:
        catalog = opened.catalog
        failures = [failure for _, failure, _ in catalog.failures()]
        roots = sorted(catalog.roots().values())
        size = folder_bytes(opened.path)
        return Status(opened.path, opened.fingerprint, catalog.count(), size, roots, count_stale(catalog), failures)


def verify(
    ctx: typer.Context,
    collection: CollectionOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be; drop what is lost, to be read again.")
    ] = False,
    as_json: JsonOption = False,
) -> Verdict:
    """Check that catalog, vectors and index agree.

    \b
    Examples:
      moca verify
      moca verify --repair
    """
    ctx.obj.as_json = as_json
    return verify_collection(collection or default_path(), repair=repair)


def compact(ctx: typer.Context, collection: CollectionOption = None, as_json: JsonOption = False) -> Compaction:
    """Give back the room of what was deleted.

    \b
    Examples:
      moca compact
      moca compact --json
    """
    ctx.obj.as_json = as_json
    return compact_collection(collection or default_path())
