"""What triage promises, each promise tried many times and violations counted: `python -m tests.promises`."""
