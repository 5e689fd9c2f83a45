"""A world of drawings with known truth: what a newcomer's first run works on, and many tests."""

from cosmop_local.world.make import make_world

__all__ = ["make_world"]
