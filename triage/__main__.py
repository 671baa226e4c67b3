"""`python3 -m triage …`: in a fresh checkout, set up first; then the command line."""

import sys

from triage import bootstrap

if __name__ == "__main__":
    bootstrap.ensure("triage", "requirements.txt", sys.argv[1:])
    from triage.cli import main

    main()
