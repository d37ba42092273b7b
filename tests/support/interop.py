"""What gRPC's interoperability cases are made of, as its public description has them.

The messages are JSON here, since what they are made of is not what is tried.
"""

import json
from typing import Any, Final

SERVICE: Final = "grpc.testing.TestService"
ECHO_INITIAL: Final = "x-grpc-test-echo-initial"
ECHO_TRAILING: Final = "x-grpc-test-echo-trailing-bin"
METADATA: Final = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))
LARGE_REQUEST, LARGE_RESPONSE = 271_828, 314_159
SIZES: Final = ((31_415, 27_182), (9, 8), (2_653, 1_828), (58_979, 45_904))  # of responses, of requests
SPECIAL: Final = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


def packed(message: Any) -> bytes:
    """Return a message as bytes."""
    return json.dumps(message).encode()


def zeros(size: int) -> dict[str, str]:
    """Return a message with a payload of so many zeros."""
    return {"payload": "\0" * size}
