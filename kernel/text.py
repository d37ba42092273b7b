"""Text from outside, made fit to be shown: on one line, and without characters that control."""


def one_line(text: str) -> str:
    """Return `text` as visible, with every run of white space, line ends too, as one space."""
    return visible(" ".join(text.split()))


def visible(text: str) -> str:
    """Return `text` with what cannot be printed as Python's escapes, such as `\\x1b`.

    So no text commands a terminal, turns the direction of writing, or fails to be encoded.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
