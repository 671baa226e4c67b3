"""A played Azure DevOps organisation: what the demo and the tests talk to."""
