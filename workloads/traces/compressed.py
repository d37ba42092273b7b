"""Takes the content of a trace's file out of its compression, within a limit of bytes.

Read are gzip, zstd, and messages that are each compressed by zstd with their lengths ahead, as
OpenTelemetry's collector writes them. Other ways to compress or encode a file are told by their
first bytes, so that the error can name them.
"""

import codecs
import gzip
import io
import zlib
from typing import Final

from lrpc.workloads.traces.spans import TraceRefused, shown

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
LENGTH: Final = 4  # bytes of a message's length, the highest first
PIECE: Final = 1024  # bytes that are unpacked at a time: 32 MiB at most come of them
# How a file begins that is not read, and what it is.
OTHERS: Final = {
    b"BZh": "compressed by bzip2; unpack it (bunzip2)",
    b"\xfd7zXZ\x00": "compressed by xz; unpack it (unxz)",
    b"PK\x03\x04": "a zip archive; unpack it (unzip)",
    b"\x04\x22\x4d\x18": "compressed by LZ4; unpack it (unlz4)",
    b"\xff\x06\x00\x00sNaPpY": "compressed by Snappy; unpack it (snzip -d)",
    b"PAR1": "in Parquet; write it as CSV",
    codecs.BOM_UTF16_LE: "text in UTF-16; write it in UTF-8 (iconv -f UTF-16 -t UTF-8)",
    codecs.BOM_UTF16_BE: "text in UTF-16; write it in UTF-8 (iconv -f UTF-16 -t UTF-8)",
}


def unpacked(name: str, data: bytes, most: int) -> bytes:
    """Return the content of a file of this name; at most `most` bytes, or some more.

    Raises `TraceRefused` for what is damaged, cut short, packed twice, or packed in another way.
    """
    if data.startswith(GZIP):
        found = _of_gzip(name, data, most)
    elif data.startswith(ZSTD):
        found = _of_zstd(name, data, most)
    elif data.startswith(ZSTD, LENGTH):
        found = _of_messages(name, data, most)
    else:
        found = data
    if found is not data and found.startswith((GZIP, ZSTD)):
        raise TraceRefused(name, "whole file", "is compressed twice; unpack it once")
    for beginning, what in OTHERS.items():
        if found.startswith(beginning):
            raise TraceRefused(name, "whole file", f"is {what}")
    return found


def _of_gzip(name: str, data: bytes, most: int) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return file.read(most + 1)
    except (EOFError, OSError, zlib.error) as error:
        place, why = f"{len(data)} bytes of gzip", shown(str(error), quote=False)
        raise TraceRefused(name, place, f"cut short or damaged ({why}); copy the file again") from None


def _of_zstd(name: str, data: bytes, most: int) -> bytes:
    """Return the content of zstd's frames, one after another; one without an end is cut short."""
    import zstandard

    found = bytearray()
    left = memoryview(data)
    place = f"{len(data)} bytes of zstd"
    while left:
        frame = zstandard.ZstdDecompressor().decompressobj()
        while left and not frame.eof:
            piece = left[:PIECE]
            try:
                found += frame.decompress(piece)
            except zstandard.ZstdError as error:
                why = shown(str(error), quote=False)
                raise TraceRefused(name, place, f"damaged ({why}); copy the file again") from None
            left = left[len(piece) - len(frame.unused_data) :]
            if len(found) > most:
                return bytes(found)
        if not frame.eof:
            raise TraceRefused(name, place, "cut short: its last frame has no end; copy the file again")
    return bytes(found)


def _of_messages(name: str, data: bytes, most: int) -> bytes:
    """Return messages that were compressed one by one: JSON on lines, others with their lengths."""
    messages: list[bytes] = []
    at = 0
    while at < len(data) and most >= 0:
        length = int.from_bytes(data[at : at + LENGTH], "big")
        at += LENGTH
        place = f"message {len(messages) + 1}"
        if length > len(data) - at:
            raise TraceRefused(name, place, "is cut short; copy the file again")
        if not data.startswith(ZSTD, at):
            raise TraceRefused(name, place, "is not compressed as those before it; copy the file again")
        messages.append(_of_zstd(name, data[at : at + length], most))
        most -= len(messages[-1])
        at += length
    if messages[0].startswith(b"{"):
        return b"\n".join(messages)
    return b"".join(len(message).to_bytes(LENGTH, "big") + message for message in messages)
