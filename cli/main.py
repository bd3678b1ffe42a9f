"""The `moca` command."""


def main() -> None:
    """Run the command line."""
