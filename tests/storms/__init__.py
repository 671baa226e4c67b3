"""What triage promises under load: storms, fairness, poison, back-pressure. See tests/promises."""
