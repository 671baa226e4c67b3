"""What triage promises, each promise tried many times."""
