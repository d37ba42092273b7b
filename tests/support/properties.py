"""The number of examples of a property: the number its test asks for, scaled by the profile."""

from typing import Final

from hypothesis import settings

USUAL: Final = 100  # examples of a test that sets no number, before the profile scales it


def examples(count: int) -> settings:
    """Return settings for this many examples, changed in the profile's proportion."""
    return settings(max_examples=max(1, count * settings().max_examples // USUAL))
