"""An exported event log hashes to the record's digest; an incomplete log is refused."""

import struct
from pathlib import Path

import pytest

from lrpc.kernel.simulated.log import EVENT_BYTES, NAMES
from lrpc.workloads.records import events
from tests.support.command import HERE, lrpc, office, record, refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the event log `log` of a run and its record in `run`."""
    folder = tmp_path_factory.mktemp("events")
    ended = lrpc("run", office(folder), *HERE, "--out", folder / "run", "--events", folder / "log")
    assert ended.code == 0
    return folder


@pytest.mark.parametrize("links", ["memory", "grpc"])
def test_the_export_hashes_to_the_digest_of_the_record(links: str, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    ended = lrpc("run", office(tmp_path), "--actors", 0, "--links", links, "--out", run, "--events", log)
    assert ended.code == 0
    said = lrpc("events", log, "--digest")
    assert (said.code, said.out.split()) == (0, [record(run)["digest"]])
    assert f"digest {record(run)['digest']}" in ended.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "office.toml", "run"]


def test_what_is_exported_changes_nothing_and_is_the_same_again(folder: Path, tmp_path: Path) -> None:
    lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run")
    lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "again", "--events", tmp_path / "log")
    assert (
        record(tmp_path / "run")["digest"] == record(tmp_path / "again")["digest"] == record(folder / "run")["digest"]
    )
    assert (tmp_path / "log").read_bytes() == (folder / "log").read_bytes()


def test_it_is_printed_one_event_a_line_for_every_machine_in_order_of_time(folder: Path) -> None:
    heading, *lines = lrpc("events", folder / "log").out.splitlines()
    assert heading == "machine,time_ns,event,subject,object"
    rows = [line.split(",") for line in lines]
    machines = record(folder / "run")["machines"]
    assert list(dict.fromkeys(row[0] for row in rows)) == sorted(machines)
    counted = {machine: sum(row[0] == machine and row[2] == "call" for row in rows) for machine in machines}
    assert counted == {machine: found["counts"]["cross_domain"] for machine, found in machines.items()}
    counts = record(folder / "run")["counts"]
    assert sum(row[2] == "send" for row in rows) == counts["link_requests"] + counts["link_replies"]


def test_in_words_every_event_has_a_line_that_names_other_machines(folder: Path) -> None:
    plain = lrpc("events", folder / "log").out.splitlines()[1:]
    told = lrpc("events", folder / "log", "--words").out.splitlines()
    assert len(told) == len(plain)
    assert told[0].split(maxsplit=3)[3] == "the run begins, with seed 0"
    sends = [line for line, event in zip(told, plain, strict=True) if event.split(",")[2] == "send"]
    machines = set(record(folder / "run")["machines"])
    assert sends
    assert all(" leaves for " in line and line.rpartition(" ")[2] in machines for line in sends)
    assert all("{" not in line for line in told)


def test_every_kind_of_event_has_words_and_others_are_shown_as_they_are(folder: Path, tmp_path: Path) -> None:
    assert set(events.WORDS) == set(NAMES)
    data = bytearray((folder / "log").read_bytes())
    data[-EVENT_BYTES:] = struct.pack("<qqqq", 1000, 99, -5, 1 << 62)
    (tmp_path / "log").write_bytes(data)
    last = lrpc("events", tmp_path / "log", "--words").out.splitlines()[-1]
    assert last.endswith(f"event 99 of -5 and {1 << 62}")
    assert "exclude each other" in refused("events", folder / "log", "--words", "--digest")


def test_one_bit_changed_changes_what_it_hashes_to(folder: Path, tmp_path: Path) -> None:
    data = bytearray((folder / "log").read_bytes())
    data[-EVENT_BYTES] ^= 1
    (tmp_path / "log").write_bytes(data)
    assert lrpc("events", tmp_path / "log", "--digest").out.split() != [record(folder / "run")["digest"]]


def cuts(data: bytes) -> list[int]:
    """Return offsets to cut a log at: in every part of it, and between machines' events."""
    found = [len(events.MAGIC) + cut for cut in (0, 2, 4, 9, 20)]
    at = len(events.MAGIC) + 4
    while at < len(data):
        name, size = struct.unpack_from("<IQ", data, at)
        at += 12 + name + size
        found += [at - 1, at - EVENT_BYTES, at] if at < len(data) else [at - 1, at - EVENT_BYTES]
    return found


@pytest.mark.parametrize("digest", [True, False])
def test_a_log_cut_short_anywhere_is_refused(digest: bool, folder: Path, tmp_path: Path) -> None:
    data, log = (folder / "log").read_bytes(), tmp_path / "log"
    for cut in cuts(data):
        log.write_bytes(data[:cut])
        line = refused("events", log, *(["--digest"] if digest else []))
        assert line == f"lrpc: {log}: cut short; export it again"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not an event log; export one with --events"),
        (b"machine,time_ns\n", "not an event log; export one with --events"),
        (events.MAGIC + struct.pack("<IIQ", 1, 2**32 - 1, 0), "cut short; export it again"),
        (
            events.MAGIC + struct.pack("<IIQ", 1, 1, 33) + bytes(34),
            "damaged: 33 bytes are not a whole number of events; export it again",
        ),
        (events.MAGIC + struct.pack("<IIQ", 1, 1, 32) + bytes(34), "has data after its last machine; export it again"),
    ],
    ids=["empty", "its own CSV", "an endless name", "part of an event", "more behind"],
)
def test_another_file_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(data)
    assert refused("events", log, "--digest").startswith(f"lrpc: {log}: {said}")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    said = "cannot be read: Is a directory; export an event log with --events"
    assert refused("events", tmp_path) == f"lrpc: {tmp_path}: {said}"


def test_an_existing_log_is_replaced_with_force_alone(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("mine")
    command = ["run", office(tmp_path), *HERE, "--out", tmp_path / "run", "--events", log]
    assert "exists already" in refused(*command)
    assert log.read_text() == "mine"
    assert lrpc(*command, "--force").code == 0
    assert log.read_bytes() == (folder / "log").read_bytes()


def test_a_run_that_failed_leaves_no_log(tmp_path: Path) -> None:
    path = office(tmp_path)
    path.write_text(path.read_text().replace('{ names = "names@', '{ names = "windows@'))
    ended = lrpc("run", path, *HERE, "--out", tmp_path / "run", "--events", tmp_path / "log")
    assert ended.code == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["office.toml", "run"]
