"""The played organisation of the sandbox's own tests."""

from tests.sandbox.conftest import organisation, played, shop

__all__ = ["organisation", "played", "shop"]
