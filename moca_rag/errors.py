"""Every error that moca_rag raises on purpose.

MocaError                 one clear line: what was wrong, the value, what to do next
├── ConfigError           a setting, option or argument that cannot be used
├── ModelError            a model that cannot be found, loaded or trusted
├── DocumentError         a file or page that cannot be read; carries a short code
└── CollectionError       a collection that cannot be opened, written or believed
    ├── LockedError       another process is writing to it
    └── FingerprintError  it was made with other settings than those asked for
"""


class MocaError(Exception):
    """The root of the tree; its message is written for the person at the keyboard."""


class ConfigError(MocaError):
    """A setting, option or argument cannot be used."""


class ModelError(MocaError):
    """A model cannot be found, loaded or trusted."""


class DocumentError(MocaError):
    """A document, or one page of it, cannot be read.

    `code` is one stable word for programs, such as `password_required` or `page_timeout`.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class CollectionError(MocaError):
    """A collection cannot be opened, written or believed."""


class LockedError(CollectionError):
    """Another process holds the collection's write lock."""


class FingerprintError(CollectionError):
    """The collection was made with other settings than those asked for."""


def one_line(error: BaseException) -> str:
    """What a foreign error says, on one short line; its class where it says nothing.

    >>> one_line(ValueError("first\\n  second")), one_line(MemoryError())
    ('first second', 'MemoryError')
    """
    return " ".join(str(error).split())[:160] or type(error).__name__
