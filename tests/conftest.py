"""What holds for all tests."""

import os

# A new collection would be embedded by moca-tiny: tests that want that say so, and the others stay fast.
os.environ["MOCA_MODEL"] = "none"
