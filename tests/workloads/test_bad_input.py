"""Bad input is refused in one line that names file, place and fix; no files are left behind."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lrpc.workloads import scenarios
from tests.support.command import HERE, lrpc, office, refused

OFFICE = scenarios.find("office").read_text()
COLUMNS = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano"
GOOD = f"{COLUMNS}\nt,a,root,front,Home,100,900\nt,b,a,back,Get,200,800\n"
BACKWARDS = "t,c,a,back,Get,800,200\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refusal(*arguments: object) -> str:
    """Return why a command is refused, and check that it left no file behind."""
    before = entries(Path())
    line = refused(*arguments)
    assert entries(Path()) == before
    return line


def office_with(old: str, new: str) -> str:
    assert old in OFFICE, old
    return OFFICE.replace(old, new, 1)


SOLVED = 'value = 2000, why = "fits", origin = "fitted", solved_from = ["I/Unix/remote/total"]'
SERVER = "[machines.fileserver]\n"
IMPORT = 'imports = { server = "files" }'

# The fault, the text of the file, and the place and fix that the line must give.
DESCRIPTIONS: dict[str, tuple[str, ...]] = {
    "a wrong type": (
        office_with(SERVER, f'{SERVER}processors = "two"\n'),
        "machines.fileserver.processors: Input should be a valid integer; it is 'two'",
    ),
    "a fraction of a processor": (
        office_with(SERVER, f"{SERVER}processors = 1.5\n"),
        "machines.fileserver.processors: Input should be a valid integer",
    ),
    "no processor": (
        office_with(SERVER, f"{SERVER}processors = 0\n"),
        "machines.fileserver.processors: Input should be greater than or equal to 1; it is 0",
    ),
    "an unknown key": (
        office_with(SERVER, f"{SERVER}processor = 1\n"),
        "machines.fileserver.processor: unknown key; remove it or correct its spelling",
    ),
    "an unknown table": (office_with("[links]", "[link]"), "link: unknown key; remove it or correct its spelling"),
    "a missing key": (office_with('machine = "fileserver"\n', ""), "domains.files.machine: missing; add it"),
    "a domain on no machine": (
        office_with('machine = "fileserver"', 'machine = "filserver"'),
        "domains.files.machine: no machine filserver; there are workstation, fileserver",
    ),
    "no machines at all": ('name = "x"\nmachines = {}\n[domains.d]\nmachine = "m"\n', "machines: ", "at least 1"),
    "two exports of one name": (
        office_with("exports.files =", 'exports."names@workstation1" ='),
        "names@workstation1 is exported by domain files of machine fileserver and by domain names of machine ",
    ),
    "an export of machines that are alike": (
        office_with("names@{machine}", "names"),
        "names is exported by domain names of machine workstation1 and by domain names of machine workstation2",
    ),
    "the same export twice in a domain": (
        office_with("exports.files =", 'exports.files = { server = "file server" }\nexports.files ='),
        "not TOML: ",
        "line",
    ),
    "an import that nobody exports": (
        office_with(IMPORT, 'imports = { server = "fils" }'),
        "domains.cache.imports.server: nobody exports fils; exported are files, ",
    ),
    "an unknown server": (
        office_with('"file server"', '"file sever"'),
        "domains.files.exports.files.server: unknown: file sever; known are copies, file cache, file server, ",
        "; add your own with --registry",
    ),
    "an unknown program": (
        office_with('"office user"', '"ofice user"'),
        "domains.user.threads.0.program: unknown: ofice user; known are ",
        "; add your own with --registry",
    ),
    "an unknown parameter": (
        office_with("buffers =", "bufers ="),
        "domains.files.exports.files.parameters: bufers: unknown key; remove it or correct its spelling",
    ),
    "a fitted parameter that names no cell": (
        office_with("buffers = 2000", 'buffers = { value = 2000, why = "fits", origin = "fitted" }'),
        "domains.files.exports.files.parameters.buffers: top level: solved_from: a fitted parameter needs it, and no",
    ),
    "a parameter that was solved from no cell": (
        office_with("buffers = 2000", f"buffers = {{ {SOLVED} }}"),
        "domains.files.exports.files.parameters.buffers: solved_from.0: I/Unix/remote/total: I has no row Unix; it has",
    ),
    "a parameter of a wrong type": (
        office_with("buffers = 2000", 'buffers = "many"'),
        "domains.files.exports.files.parameters: buffers: Input should be a valid integer; it is 'many'",
    ),
    "a missing parameter": (
        office_with("blocks = 512", ""),
        "domains.cache.exports.files@{machine}.parameters: blocks: missing; add it",
    ),
    "an unknown cost model": (
        office_with(f'{SERVER}cost_model = "cvax-firefly"', f'{SERVER}cost_model = "cvax"'),
        "machines.fileserver.cost_model: cost model cvax: unknown; known are accent, amoeba, cvax-firefly, ",
    ),
    "an unknown discipline": (
        office_with(SERVER, f'{SERVER}discipline = "no copies"\n'),
        "machines.fileserver.discipline: Input should be 'shared buffers', 'message passing' or 'restricted message ",
    ),
    "a quantum of zero": (
        office_with(SERVER, f"{SERVER}quantum_us = 0.0\n"),
        "machines.fileserver.quantum_us: Input should be greater than or equal to 1; it is 0.0",
    ),
    "a quantum that is no time": (
        office_with(SERVER, f"{SERVER}quantum_us = nan\n"),
        "machines.fileserver.quantum_us: Input should be a finite number; it is nan",
    ),
    "an unknown convention": (
        office_with('machine = "fileserver"\n', 'machine = "fileserver"\nconvention = "registers"\n'),
        "domains.files.convention: Input should be 'argument pointer' or 'execution stack'; it is 'registers'",
    ),
    "two machines of one name": (
        office_with(SERVER, f"[machines.workstation1]\n{SERVER}"),
        "machines: two are called workstation1; rename one",
    ),
    "a link to nowhere": (
        office_with("[links]\n", '[links]\npairs = [{ between = ["fileserver", "attic"], delay_us = 1.0 }]\n'),
        "links.pairs: no machine attic; there are fileserver, workstation1, ",
    ),
    "a link without delay": (
        office_with("delay_us = 60.0", "delay_us = 0.0"),
        "links.delay_us: Input should be greater than 0; it is 0.0",
    ),
    "a link that takes for ever": (
        office_with("delay_us = 60.0", "delay_us = inf"),
        "links.delay_us: Input should be ",
    ),
    "no name": (office_with('name = "office"', ""), "name: missing; add it"),
    "a name that is a path": (office_with('name = "office"', 'name = "../office"'), "name: String should match"),
    "no TOML": ("name = office\n", "not TOML: ", "line 1"),
    "no text": ("\udcff\udcfe", "byte 0: not UTF-8; save the file as UTF-8"),
    "nothing": ("", "name: missing; add it (and 2 more)"),
}


@pytest.mark.parametrize("wrong", DESCRIPTIONS)
def test_a_description_with(wrong: str, folder: Path) -> None:
    text, *said = DESCRIPTIONS[wrong]
    path = folder / "cluster.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    line = refusal("run", path, *HERE)
    assert line.startswith(f"lrpc: {path}: ")
    assert all(fragment in line for fragment in said), line


@pytest.mark.parametrize("links", ["memory", "grpc"])
@pytest.mark.parametrize(
    ("imports", "said"),
    [
        ("", "import server: nobody exports it to domain cache of workstation1; correct its description"),
        (
            'imports = { server = "names@{machine}" }',
            "import names@workstation1: it is a Names, not a Files; correct its",
        ),
    ],
    ids=["does not import", "imports as another interface"],
)
def test_a_server_that_binds_what_its_domain(imports: str, said: str, links: str, folder: Path) -> None:
    (folder / "cluster.toml").write_text(office_with(IMPORT, imports))
    line = refusal("run", "cluster.toml", "--actors", 0, "--links", links)
    assert line.startswith("lrpc: office: machine workstation1: ")
    assert said in line


TRACES: dict[str, tuple[bytes, ...]] = {
    "nothing": (b"", b"whole file: is empty; record the trace again"),
    "only blanks": (b" \n\n", b"whole file: is empty; record the trace again"),
    "a header alone": (f"{COLUMNS}\n".encode(), b"whole file: holds no spans; record the trace again"),
    "no columns": (b"hello, world\n1,2\n", b"line 1: needs column TraceID, SpanID, ", b"the header must name"),
    "a column too few": (GOOD.replace("PodName", "Pod").encode(), b"line 1: needs column PodName once"),
    "no text": (b"\x7fELF\x00\x01\x02\xff" * 9, b"line 1: ", b"give a CSV or JSON file in UTF-8"),
    "JSON cut short": (b'{"data": [', b"line 1 column ", b"not JSON", b"export the trace again"),
    "other JSON": (b'{"spans": []}', b"top level: holds no spans of Jaeger's, OpenTelemetry's or Zipkin's"),
    "OTLP that is wrong": (
        b'{"resourceSpans": [{"scopeSpans": 7}]}',
        b"resourceSpans[0].scopeSpans: 7 is not a list; export the trace again",
    ),
    "gzip cut short": (b"\x1f\x8b\x08\x00", b"4 bytes of gzip: cut short or damaged", b"copy the file again"),
    "bad rows alone": (f"{COLUMNS}\n{BACKWARDS}".encode(), b"line 2: end before start: ", b"correct the file"),
}


@pytest.mark.parametrize("wrong", TRACES)
def test_a_trace_with(wrong: str, folder: Path) -> None:
    data, *said = TRACES[wrong]
    (folder / "trace.csv").write_bytes(data)
    line = refusal("replay", "trace.csv", "--machines", 2, *HERE)
    assert line.startswith("lrpc: trace.csv: ")
    assert all(fragment.decode() in line for fragment in said), line


@pytest.mark.parametrize("path", ["missing.csv", "missing/trace.csv", "a" * 300])
def test_a_trace_that_is_not_there(path: str, folder: Path) -> None:
    line = refusal("replay", path, "--machines", 2, *HERE)
    assert line.startswith(f"lrpc: {path}: whole file: cannot be read (")
    assert line.endswith("check its path and permissions")


def test_a_folder_without_files(folder: Path) -> None:
    (folder / "folder").mkdir()
    line = refusal("replay", "folder", "--machines", 2, *HERE)
    assert line == "lrpc: folder: whole folder: has no file in it; give a file, or a folder of them"


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("--group", "no such", "--group: 'no such' matches no domain; there are back, front"),
        ("--group", "(", "--group: '(' is no regular expression"),
        ("--columns", "trace", "--columns: 'trace': give role=Column, or role=Column:unit; roles are trace, span"),
        ("--columns", "trace=a", "--columns: no column for span; add span=Column"),
        (
            "--columns",
            "trace=t,span=SpanID,pod=PodName,operation=OperationName,start=StartTimeUnixNano,end=EndTimeUnixNano",
            "needs column t once; correct --columns: there are 'TraceID', 'SpanID'",
        ),
    ],
)
def test_options_of_a_trace_that_do_not_fit_it(option: str, given: str, said: str, folder: Path) -> None:
    (folder / "trace.csv").write_text(GOOD)
    assert said in refusal("traces", "trace.csv", option, given)


def test_a_bad_row_is_counted_and_named_or_refused_where_that_is_asked_for(folder: Path) -> None:
    (folder / "trace.csv").write_text(GOOD + BACKWARDS)
    ended = lrpc("replay", "trace.csv", "--machines", 2, *HERE)
    assert (ended.code, ended.err) == (0, "")
    assert "left out: 1 rows: end before start\n" in ended.out
    assert "  line 4, span 'c': end before start: it starts at 800 ns and ends at 200 ns\n" in ended.out
    line = refusal("replay", "trace.csv", "--machines", 2, "--strict", *HERE)
    assert line.startswith("lrpc: trace.csv: line 4: end before start: it starts at 800 ns and ends at 200 ns; correct")


def test_spans_that_nest_too_deep_to_be_done_again(folder: Path) -> None:
    rows = [f"t,s{n},{f's{n - 1}' if n else 'root'},pod{n % 2},op,{n},{10_000 - n}\n" for n in range(200)]
    (folder / "trace.csv").write_text(f"{COLUMNS}\n{''.join(rows)}")
    line = refusal("replay", "trace.csv", "--machines", 1, *HERE)
    told = "nested too deep: its trace is 200 spans deep, more than 72"
    assert line == f"lrpc: trace.csv: trace t: {told}; raise --max-depth, to 72 at most, or leave that trace out"
    with (folder / "trace.csv").open("a") as file:
        file.write("u,other,root,pod0,op,1,2\n")
    assert lrpc("replay", "trace.csv", "--machines", 1, *HERE).code == 0


OPTIONS: dict[str, tuple[tuple[object, ...], str]] = {
    "too few actors": (("run", "office", "--actors", -1), "--actors -1: give a number from 0 to 256"),
    "too many actors": (("run", "office", "--actors", 257), "--actors 257: give a number from 0 to 256"),
    "no number of actors": (("run", "office", "--actors", "two"), "Invalid value for '--actors'"),
    "links in memory between actors": (
        ("run", "office", "--actors", 2, "--links", "memory"),
        "--actors 2: --links memory joins machines of one process only; use --links grpc",
    ),
    "unknown links": (("run", "office", "--links", "tcp"), "'tcp' is not one of 'grpc', 'memory'"),
    "no machines": (("replay", "trace.csv", "--machines", 0), "Invalid value for '--machines'"),
    "machines not given": (("replay", "trace.csv"), "Missing option '--machines'"),
    "no processors": (("replay", "trace.csv", "--machines", 1, "--processors", 0), "Invalid value for '--processors'"),
    "an unknown scenario": (
        ("run", "offce"),
        "scenario offce: unknown; known are office, sun, survey, table-iv, taos, v, or a .toml",
    ),
    "a scenario of an endless name": (
        ("run", "a" * 300),
        "unknown; known are office, sun, survey, table-iv, taos, v, or a .toml file's path",
    ),
    "a scenario that is not there": (("run", "offce.toml"), "offce.toml: cannot be read: No such file or directory"),
    "an unknown cost model": (
        ("reproduce", "--cost-model", "vax"),
        "cost model vax: unknown; known are accent, amoeba, cvax-firefly, dash, linux-python, mach, v, or a .toml",
    ),
    "a cost model that is not there": (("reproduce", "--cost-model", "v.toml"), "v.toml: cannot be read: No such file"),
    "no calls": (("reproduce", "--calls", 0), "Invalid value for '--calls'"),
    "an unknown table": (
        ("reproduce", "--only", "VII"),
        "--only VII: unknown; known are I, Figure 1, II, III, IV, V, Fig",
    ),
    "a negative seed": (("reproduce", "--seed", -1), "Invalid value for '--seed'"),
    "an unknown option": (("run", "office", "--fast"), "No such option: --fast"),
    "an unknown command": (("perform",), "No such command 'perform'"),
    "a capacity without packing": (
        ("replay", "trace.csv", "--machines", 1, "--capacity", 3),
        "placement: capacity: only 'pack' has one; leave it out",
    ),
    "machines too small": (
        ("replay", "trace.csv", "--machines", 1, "--placement", "pack", "--capacity", 1),
        "pack: capacity: 2 pods do not fit on 1 machines of 1; give more machines or a higher capacity",
    ),
    "a placement that is not there": (
        ("replay", "trace.csv", "--machines", 1, "--placement", "here.toml"),
        "here.toml: whole file: cannot be read: No such file",
    ),
    "events where a file is": (("run", "office", "--events", "trace.csv"), "--events trace.csv: exists already; name"),
    "events in no folder": (("run", "office", "--events", "no/log"), "--events no/log: there is no folder no; make it"),
    "events in /proc": (("run", "office", "--events", "/proc/log"), "--events /proc/log: cannot be written: "),
    "events in the record": (
        ("run", "office", "--out", "x", "--events", "x"),
        "--events x: is inside the record's folder",
    ),
    "an event log that is not there": (("events", "missing"), "missing: cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("wrong", OPTIONS)
def test_options_with(wrong: str, folder: Path) -> None:
    (folder / "trace.csv").write_text(GOOD)
    arguments, said = OPTIONS[wrong]
    assert said in refusal(*arguments)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("record", "--out record: exists already; name another folder, or add --force to replace that record"),
        ("file", "--out file: exists already; name another folder, or add --force"),
        ("link", "--out link: exists already; "),
        (".", "--out .: has no name of its own; name another folder"),
        ("..", "--out ..: has no name of its own; name another folder"),
        ("/", "--out /: has no name of its own; name another folder"),
        ("file/record", "--out file/record: cannot be written: Not a directory; name another folder"),
        ("file/deep/record", "--out file/deep/record: cannot be written: Not a directory; name another folder"),
        ("/proc/record", "--out /proc/record: cannot be written: "),
        ("/proc/deep/record", "--out /proc/deep/record: cannot be written: "),
        ("a" * 300, "cannot be written: File name too long; name another folder"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_record_that_cannot_be_written_to(out: str, said: str, more: tuple[str, ...], folder: Path) -> None:
    (folder / "record").mkdir()
    (folder / "file").write_text("mine")
    (folder / "link").symlink_to("nowhere")
    assert said in refusal("run", office(folder), *HERE, "--out", out, *more)
    assert (folder / "file").read_text() == "mine"


@pytest.mark.parametrize("out", ["file", "folder", "link"])
def test_force_replaces_nothing_but_a_record(out: str, folder: Path) -> None:
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "folder" / "mine").write_text("")
    (folder / "record").mkdir()
    (folder / "record" / "record.json").write_text("{}")
    (folder / "link").symlink_to("record")
    said = f"--out {out}: is not a record, so --force does not replace it; name another folder"
    assert said in refusal("run", office(folder), *HERE, "--out", out, "--force")


def unused() -> int:
    """Return a port without a listener."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        assert isinstance(port, int)
        return port


ADDRESSES: dict[str, tuple[Callable[[], str], str]] = {
    "nothing listens": (lambda: f"127.0.0.1:{unused()}", "Connection refused; is a cluster running there?"),
    "there is no port": (lambda: "127.0.0.1", "write host:port of a running cluster's head node"),
    "the port is none": (lambda: "127.0.0.1:99999", "write host:port of a running cluster's head node"),
    "there is no host": (lambda: "no.such.invalid:6379", "there is no host no.such.invalid"),
    "it is a URL": (lambda: "http://127.0.0.1:80", "write host:port of a running cluster's head node"),
}


@pytest.mark.parametrize("wrong", ADDRESSES)
def test_an_address_of_ray_at_which(wrong: str, folder: Path) -> None:
    make, said = ADDRESSES[wrong]
    address, since = make(), time.monotonic()
    line = refusal("run", office(folder), "--address", address)
    assert time.monotonic() - since < 60  # Ray itself would try for minutes
    assert line.startswith(f"lrpc: Ray address {address}: ")
    assert said in line


def test_a_pipe_in_place_of_a_trace_or_a_module(folder: Path) -> None:
    """It may never begin, and a device may have no end."""
    os.mkfifo("pipe")
    os.mkfifo("code.py")
    for command in (("replay", "pipe", "--machines", 2), ("traces", "pipe"), ("place", "pipe", "--machines", 2)):
        assert "pipe: whole file: is not a regular file; give a file, or a folder of them" in refusal(*command)
    assert "code.py: not a regular file; name a file" in refusal("run", office(folder), "--registry", "code.py:TOWN")


def test_the_command_itself_says_one_line_and_leaves_nothing(folder: Path) -> None:
    (folder / "cluster.toml").write_text(office_with('machine = "fileserver"', 'machine = "attic"'))
    before = entries(folder)
    command: list[str | Path] = [Path(sys.executable).with_name("lrpc"), "run", "cluster.toml"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (ended.returncode, ended.stdout) == (2, "")
    said = "domains.files.machine: no machine attic; there are workstation, fileserver"
    assert ended.stderr == f"lrpc: cluster.toml: top level: {said}\n"
    assert entries(folder) == before
