"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

CollectionOption = Annotated[
    Path | None,
    typer.Option("-c", "--collection", metavar="DIR", envvar="MOCA_COLLECTION", help="Where the collection lies."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
PasswordOption = Annotated[
    list[str] | None, typer.Option("--password", metavar="TEXT", help="Try this on encrypted PDFs; repeatable.")
]
