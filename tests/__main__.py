"""`python3 -m tests …`: in a fresh checkout, set up first; then pytest."""

import sys

from triage import bootstrap

if __name__ == "__main__":
    bootstrap.ensure("tests", "requirements-dev.txt", sys.argv[1:])
    import pytest

    sys.exit(pytest.main(["-n", "auto", "--dist", "worksteal", *sys.argv[1:]]))
