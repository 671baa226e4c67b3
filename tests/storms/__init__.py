"""What triage promises under load: storms, fairness, poison, back-pressure. `python -m tests.bench.storm`."""
