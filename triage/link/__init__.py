"""5 link: which service connection a failed step used, and how we know."""

from triage.link.attribution import attribute

__all__ = ["attribute"]
