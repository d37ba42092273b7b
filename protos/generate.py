"""Generate the Python code and type stubs of every protocol definition in this directory.

Runs as `python -m lrpc.protos.generate` and as a plain script. As a script it does not import
`lrpc`, so that it can replace generated code that can no longer be imported.
"""

import argparse
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
PACKAGE = "lrpc/protos"
"""The package path of this directory: protoc derives the imports in generated code from it."""


def generate(out: Path) -> list[Path]:
    """Write the generated files into `out` and return their paths.

    Raises `RuntimeError` where protoc fails; it has then printed why.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = [
            "protoc",
            f"--proto_path={PACKAGE}={HERE}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            *(f"--{kind}_out={scratch}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
            *(f"{PACKAGE}/{path.name}" for path in sorted(HERE.glob("*.proto"))),
        ]
        if protoc.main(arguments) != 0:
            raise RuntimeError("protoc refused the definitions: see its message above")
        out.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(path, out / path.name)) for path in sorted(Path(scratch, PACKAGE).iterdir())]


def main() -> None:
    """Run the command: generate into this directory, or into the one given by `--out`."""
    parser = argparse.ArgumentParser(description="Generate the Python code of the protocol definitions.")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="write the files into DIR")
    try:
        generate(parser.parse_args().out)
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
