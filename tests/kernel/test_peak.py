"""How much memory a process has had at most."""

import subprocess
import sys

from lrpc.kernel.peak import peak_bytes

SIZE = 256 << 20
CHILD = "from lrpc.kernel.peak import peak_bytes; print(peak_bytes())"


def test_what_a_process_has_given_back_counts_but_not_for_those_it_starts() -> None:
    before = peak_bytes()
    held = bytearray(SIZE)
    held[::4096] = bytes([1]) * (SIZE // 4096)
    del held
    most = peak_bytes()
    assert most > SIZE
    assert most >= before
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(child.stdout) < SIZE
