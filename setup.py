"""Compiles the modules that most of the work runs through, where there is a C compiler.

Elsewhere their sources are run. mypyc writes C for each module of compiled-modules.txt, and leaves
out what `help` shows. So the docstrings of the sources are written into that C before it is
compiled (`with_docstrings`), as few large files rather than many small ones (`in_parts`), on all
processors (`BuildWherePossible`).

lrpc/ holds a symbolic link for each room. Zip archives, and checkouts without symbolic links, have
a text file in its place, and a package made of those could not be imported. So the rooms are put
there first (`put_rooms_in_place`).

The host kernel's native part is plain C for Linux, the same for every Python that keeps the limited
API. Where it cannot be built, lrpc goes without the host kernel.
"""

import ast
import os
import re
import shutil
import string
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

try:
    from mypyc.build import mypycify
except ImportError:  # an installation of the plain sources, without build requirements
    mypycify = None

LIST = Path(__file__).with_name("compiled-modules.txt")
ROOMS = ("cluster", "domains", "kernel", "protos", "workloads")
HOST = "lrpc.kernel.host.native"
METADATA = {"dist_info", "egg_info", "sdist"}  # commands that compile nothing
PARTS = 8  # fixed: the same code comes out on every computer
# Symbols that only this library sees are called directly, which makes calls 3 to 8 % faster. With
# them, GCC's -O1 and those options of its -O2 that cost next to no time make calls 4 to 6 % faster
# than -O3 does without, and compile in half the time. Clang inlines nothing at -O1: it gets -O2.
# What another compiler warns of in generated code is no reason to run interpreted.
UNIX = ["-O2", "-g0", "-fvisibility=hidden", "-Wno-error"]
GCC = [
    "-O1",
    "-finline-small-functions",
    "-findirect-inlining",
    "-fpartial-inlining",
    "-freorder-blocks-algorithm=stc",
    "-freorder-blocks-and-partition",
    "-fpeephole2",
    "-falign-functions",
    "-falign-jumps",
    "-falign-labels",
    "-falign-loops",
]

PLAIN = frozenset(string.ascii_letters + string.digits + " .,;:()=-_`")  # in a C string as in any
# An entry of a table in mypyc's C: the C name of a function or property, or the name of a class or
# module, and the text that `help` shows of it.
ENTRY = re.compile(
    r"""( \(PyCFunction\)(\w+), [^"]*? PyDoc_STR\(
        | \(getter\)(\w+), [^"]*? (?=NULL,\ NULL\})
        | \.tp_name\ =\ "(\w+)", [^"]*? \.tp_doc\ =\ PyDoc_STR\(
        | PyModuleDef\ (\w+)\ = [^;]*? (?=NULL,\ /\*\ docstring)
        )
        ( NULL | "(?:[^"\\]|\\.)*" )""",
    re.VERBOSE,
)


class BuildWherePossible(build_ext):
    """A build on all processors, that goes on without compiled modules where it must."""

    def run(self) -> None:
        """Build all modules; or none, and say so once."""
        try:
            super().run()
        except (BaseError, CCompilerError, OSError) as error:
            self.extensions = []
            self.warn(f"no C compiler that works, so lrpc runs interpreted, with equal results ({error})")

    def build_extensions(self) -> None:
        """Compile as many files at a time as there are processors."""
        if self.compiler.compiler_type == "unix":
            version = subprocess.run([*self.compiler.compiler_so[:1], "--version"], capture_output=True, text=True)
            gcc = GCC if "Free Software Foundation" in version.stdout else []
            for extension in self.extensions:
                if extension.name != HOST:
                    extension.extra_compile_args = [*extension.extra_compile_args, *UNIX, *gcc]  # the list is shared
        self.parallel = os.cpu_count() or 1
        compile_in_turn = self.compiler.compile
        with ThreadPoolExecutor(self.parallel) as pool:

            def compile_at_once(sources, **options):
                made = pool.map(lambda source: compile_in_turn([source], **options), sources)
                return [name for names in made for name in names]

            self.compiler.compile = compile_at_once
            super().build_extensions()


def put_rooms_in_place():
    """Make each lrpc/ROOM a link to the room, or a copy where no link can be made.

    In an sdist the rooms stand in lrpc/ alone, and nothing is done. Stop in one line where neither
    is possible. An editable installation needs links, since a copy would not follow the room.
    """
    here = Path(__file__).parent
    for name in ROOMS:
        room, place = here / name, here / "lrpc" / name
        if (place.is_symlink() and place.is_dir()) or (place.is_dir() and not room.is_dir()):
            continue
        if not room.is_dir():
            raise SystemExit(f"lrpc cannot be built: neither {name}/ nor lrpc/{name}/ is here; get its sources again")
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)  # a copy made before, which may be old
            place.unlink(missing_ok=True)
            put(room, place)
        except OSError as error:
            raise SystemExit(f"lrpc cannot be built: lrpc/{name} cannot be made: {error.strerror}") from None


def put(room, place):
    """Make `place` a link to `room`, or else a copy."""
    try:
        place.symlink_to(Path("..", room.name), target_is_directory=True)
    except OSError:
        if "editable_wheel" in sys.argv or "develop" in sys.argv:
            raise SystemExit(
                "lrpc cannot be installed as editable: no symbolic links can be made here; install it without "
                "--editable, or allow links (git config core.symlinks true, then check it out again)"
            ) from None
        shutil.copytree(room, place, ignore=shutil.ignore_patterns("__pycache__", "*.so"))


def extensions():
    """Return what there is to compile; nothing while only the package's metadata is asked for."""
    if mypycify is None or os.environ.get("LRPC_INTERPRETED") == "1" or not METADATA.isdisjoint(sys.argv):
        return []
    files = [f"lrpc/{line}" for line in LIST.read_text().splitlines() if not line.startswith("#")]
    config = f"--config-file={LIST.with_name('mypyc.ini')}"
    library, *modules = mypycify([*files, config], group_name="lrpc_hot", multi_file=True)
    sources = {file.removesuffix(".py").replace("/", "___"): Path(file).read_text() for file in files}
    texts = [(Path(name).stem, Path(name).read_text()) for name in library.sources]
    library.sources = in_parts([with_docstrings(c, sources.get(stem.removeprefix("__native_"))) for stem, c in texts])
    for module in modules:  # which only load their part of the library, and must not look older than their source
        module.depends = [module.name.replace(".", "/") + ".py"]
    return [library, *modules]


def host_extension():
    """Return the native part of the host kernel; nothing where it has no place."""
    if not sys.platform.startswith("linux") or not METADATA.isdisjoint(sys.argv):
        return []
    room = "lrpc/kernel/host"
    return [
        Extension(
            HOST,
            [f"{room}/native.c"],
            depends=[f"{room}/{one}.h" for one in ("transfer", "lending", "spinners", "stub", "handler")],
            extra_compile_args=["-std=gnu11", "-O2", "-g0", "-fvisibility=hidden", "-pthread"],
            py_limited_api=not sysconfig.get_config_var("Py_GIL_DISABLED"),
            optional=True,
        )
    ]


def in_parts(texts):
    """Write the texts of C files as `PARTS` files and return their names.

    Every file includes the same headers, which take longer to compile than most modules do.
    """
    size = sum(map(len, texts))
    parts = [""] * PARTS
    written = 0
    for text in texts:
        parts[(written + len(text) // 2) * PARTS // size] += text
        written += len(text)
    names = [Path("build", f"lrpc_hot_{number}.c") for number in range(PARTS)]
    for name, part in zip(names, parts, strict=True):
        name.write_text(part)
    return [str(name) for name in names]


def with_docstrings(c, source):
    """Return the C that mypyc wrote for a module, with the docstrings of its Python source added.

    What `help` shows of compiled code stands in the entries of tables. Python takes the signature
    from the beginning of an entry's text, and the docstring from its rest, which mypyc leaves out.
    Where mypyc writes other entries than `ENTRY` describes, nothing is added; a test then fails.
    """
    module = re.search(r"PyMethodDef (\w+)module_methods\[\]", c)
    if source is None or module is None:
        return c
    tree = ast.parse(source)
    docstrings = {f"{module[1]}module": ast.get_docstring(tree)}
    holders = [(module[1], tree)]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            docstrings[node.name] = ast.get_docstring(node)
            holders.append((f"{module[1]}___{node.name}", node))
    for name, holder in holders:
        for node in holder.body:
            if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
                docstrings[f"CPyPy_{name}___{node.name}"] = docstrings[f"{name}_get_{node.name}"] = docstring

    def filled(entry):
        before, *names, text = entry.groups()
        docstring = docstrings.get(next(filter(None, names)))
        if not docstring:
            return entry[0]
        letters = "".join(chr(byte) if chr(byte) in PLAIN else f"\\{byte:03o}" for byte in docstring.encode())
        return f'{before}"{"" if text == "NULL" else text[1:-1]}{letters}"'

    return ENTRY.sub(filled, c)


put_rooms_in_place()
setup(ext_modules=[*host_extension(), *extensions()], cmdclass={"build_ext": BuildWherePossible})
