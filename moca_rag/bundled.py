"""Says where moca-tiny lies, the small model that comes along with the package; never loads torch."""

from pathlib import Path

TINY = "moca-tiny"
IS_DEFAULT = True  # of new collections where none is named (docs/decisions.md)
NO_MODEL = "none"  # what a person names who wants no model
TINY_FOLDER = Path(__file__).with_name("tiny")
TINY_FILES = ("config.json", "model.safetensors", "tokenizer.json", "moca.json")
LARGE = "moca-embed/MoCa-Qwen25VL-3B"  # what is recommended where there is a GPU


def has_tiny() -> bool:
    """Whether its files lie here; a checkout of the source alone may lack them."""
    return all((TINY_FOLDER / name).is_file() for name in TINY_FILES)
