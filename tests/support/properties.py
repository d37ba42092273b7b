"""How many examples a property is tried with: what its test asks for, and more or less of that by the profile."""

from typing import Final

from hypothesis import settings

USUAL: Final = 100  # examples where a test does not say how many, before the profile changes that


def examples(count: int) -> settings:
    """Return settings for this many examples, changed in the profile's proportion."""
    return settings(max_examples=max(1, count * settings().max_examples // USUAL))
