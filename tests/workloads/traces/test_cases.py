"""Small files as people have them: each gives the spans, calls and times that it tells of.

Replayed on three machines with `spread`, where a call between machines takes 690 us.
"""

from pathlib import Path
from typing import Final

import pytest

from lrpc.workloads.replay.gaps import network_gaps
from lrpc.workloads.replay.steps import activity
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.spans import Correction
from tests.support.command import HERE, lrpc, record

CASES: Final = Path(__file__).with_name("cases")
SHOP: Final = (5, 2, 81.38)  # three services: spans, calls between domains, simulated ms of a trace

# By file: its spans, calls between domains, and simulated ms of a trace.
READ: Final = {
    "a-jaeger-one-host.json": SHOP,
    "b-otlp-one-host.json": SHOP,
    "b0-otlp-service-only.json": SHOP,
    "b1-otlp-instances.json": SHOP,
    "b2-jaeger-instances.json": SHOP,
    "b3-otlp-int-instance.json": SHOP,
    "bb-back-to-back.json": (3, 2, 201.38),
    "bb2-parallel.json": (6, 5, 10_000.69),
    "bom-crlf.jsonl": (6, 2, 43.19),
    "c-orphan-top.json": (3, 1, 90.69),
    "c2-mostly-orphans.json": (61, 20, 13.5143),
    "dd-duplicate-export.jsonl": SHOP,
    "e-root-in-progress.json": (3, 1, 30.69),
    "f-own-parent.json": (3, 1, 90.69),
    "g-otlp-base64.json": SHOP,
    "gz-two-members.jsonl.gz": (6, 2, 43.19),
    "h-tempo-batches.json": SHOP,
    "h1-tempo-batches-hex.json": SHOP,
    "h2-tempo-v2.json": SHOP,
    "h3-jaeger-v3.json": SHOP,
    "i-otlp-snake.json": SHOP,
    "i2-otlp-array.json": (6, 2, 41.19),
    "k-jaeger-bare.json": SHOP,
    "k2-jaeger-list.json": SHOP,
    "kd-root-server-one-call.json": (2, 1, 100.69),
    "kd2-leaf-client-db.json": (2, 1, 100.0),
    "kd3-root-server-one-call-with-client.json": (3, 1, 98.69),
    "l-jaeger-es.jsonl": SHOP,
    "l2-jaeger-es-hits.json": SHOP,
    "l3-jaeger-inline-process.json": SHOP,
    "m-zipkin-v2.json": SHOP,
    "m2-zipkin-v2-traces.json": SHOP,
    "n-jaeger-ref-unpadded.json": (2, 1, 30.69),
    "n2-jaeger-spanid-unpadded.json": (2, 1, 30.69),
    "o-jaeger-64-128.json": (3, 1, 90.69),
    "p-shared-span-id.json": (4, 2, 90.69),
    "pb-length-prefixed.bin": SHOP,
    "pb-one.bin": SHOP,
    "q-queue.json": (3, 1, 20.0001),
    "q2-follows-other-trace.json": (3, 1, 90.69),
    "q3-parent-in-link.json": (2, 1, 100.69),
    "r-skew-hour.json": (3, 1, 90.69),
    "r2-skew-forward.json": (3, 1, 90.69),
    "r3-skew-half.json": (3, 1, 90.69),
    "r4-child-ends-1us-late.json": (3, 1, 100.6911),
    "r5-child-ends-with-parent.json": (3, 1, 100.6901),
    "s-zero-durations.json": (3, 2, 1.38),
    "t-unicode.json": (3, 2, 101.38),
    "u-year-apart.json": (4, 2, 100.69),
    "v-deep-70.json": (70, 69, 1045.6115),
    "w-jaeger-floats.json": SHOP,
    "w2-csv-pandas-floats.csv": (2, 1, 30.69),
    "w3-csv-nan-parent.csv": (2, 1, 30.69),
    "w4-csv-index.csv": (2, 1, 30.69),
    "x-otlp-low-high.json": SHOP,
    "y-otel-console.jsonl": (2, 1, 100.69),
    "z-aiops22.csv": (2, 1, 30.69),
    "z-alibaba.csv": (3, 2, 50.69),
    "z-csv-lower.csv": (1, 0, 100.0),
    "z-csv-semicolon.csv": (1, 0, 100.0),
    "z-csv-tab.tsv": (1, 0, 100.0),
    "z-rcaeval.csv": (2, 1, 30.69),
    "zst-lines.jsonl.zst": SHOP,
}
# Of the shops, those with two instances of a service, which are two domains.
INSTANCES: Final = (
    "b1-otlp-instances.json",
    "b2-jaeger-instances.json",
    "pb-length-prefixed.bin",
    "pb-one.bin",
    "zst-lines.jsonl.zst",
)
NUMBERED: Final = "b3-otlp-int-instance.json"  # and those whose names are numbers
REFUSED: Final = {
    "k3-jaeger-404.json": "Jaeger answered 'trace not found'",
    "pb-otlp.bin": "holds no spans",
    "y2-chrome-trace.json": "is Chrome's trace events",
    "y3-xray.json": "is AWS X-Ray's",
    "y4-elastic-apm.ndjson": "is Elastic APM's",
    "y5-datadog.json": "is Datadog's",
    "y6-empty-data.json": "holds no spans",
    "zst-magic.jsonl.zst": "is empty",
}
# By file: the computation of its domains in ms, those that are not traced, what spans waited for
# those and the gap of calls in ms, and what was corrected.
COMPUTED: Final[dict[str, tuple[dict[str, float], set[str], float, float, set[Correction]]]] = {
    "a-jaeger-one-host.json": ({"front": 30, "cart": 20, "ads": 30}, set(), 0, 20, set()),
    "b0-otlp-service-only.json": ({"front": 30, "cart": 20, "ads": 30}, set(), 0, 20, set()),
    "b1-otlp-instances.json": ({"front": 30, "cart/c0": 20, "cart/c1": 30}, set(), 0, 20, set()),
    "c-orphan-top.json": ({"front": 70, "cart": 20}, set(), 0, 10, {Correction.NO_PARENT}),
    "e-root-in-progress.json": ({"front": 10, "cart": 20}, set(), 0, 10, {Correction.NOT_ENDED}),
    "f-own-parent.json": ({"front": 70, "cart": 20}, set(), 0, 10, {Correction.OWN_PARENT}),
    "kd-root-server-one-call.json": ({"gateway": 90, "cart": 10}, set(), 0, 0, set()),
    "kd2-leaf-client-db.json": ({"front": 10}, {"front: SELECT"}, 90, 0, set()),
    "kd3-root-server-one-call-with-client.json": ({"gateway": 88, "cart": 10}, set(), 0, 2, set()),
    "p-shared-span-id.json": ({"front": 70, "cart": 10}, {"cart: query"}, 10, 10, {Correction.SHARED_ID}),
    "q3-parent-in-link.json": ({"front": 80, "cart": 20}, set(), 0, 0, set()),
    "r2-skew-forward.json": ({"front": 70, "cart": 20}, set(), 0, 10, {Correction.CLOCK}),
}


def replayed(name: str, out: Path) -> tuple[int, int, float, str]:
    ended = lrpc("replay", CASES / name, "--machines", 3, *HERE, "--out", out)
    assert (ended.code, ended.err) == (0, "")
    found = record(out)
    told = found["trace"]["summary"]
    ms = told["mean time of a trace, simulated, us"] / 1000
    return told["spans"], told["calls that leave their domain"], ms, found["digest"]


def test_every_case_is_tried() -> None:
    assert READ.keys() | REFUSED.keys() == {path.name for path in CASES.iterdir()}


@pytest.mark.parametrize("name", READ)
def test_a_file_gives_its_spans_calls_and_times(name: str, tmp_path: Path) -> None:
    *found, _ = replayed(name, tmp_path / "out")
    assert found == pytest.approx(READ[name])


@pytest.mark.parametrize("name", COMPUTED)
def test_a_file_gives_its_domains_and_what_they_computed(name: str) -> None:
    trace = read_trace(CASES / name)
    done = activity(trace)
    computed = {pod: ns / 1e6 for pod, ns in done.computed_ns.items()}
    gap = sum(network_gaps(trace, done).values()) / 1e6
    found = (computed, set(done.outside.values()), done.waited_ns / 1e6, gap, set(trace.corrections))
    assert found == COMPUTED[name]
    said = lrpc("traces", CASES / name).out
    assert all(str(correction)[:40] in said for correction in trace.corrections)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_spans_that_can_be_read_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    ended = lrpc("replay", CASES / name, "--machines", 3, *HERE, "--out", tmp_path / "out")
    (line,) = ended.err.splitlines()
    assert ended.code == 2
    assert line.startswith(f"lrpc: {CASES / name}: ")
    assert REFUSED[name] in line


def test_the_same_spans_have_one_digest_in_every_form(tmp_path: Path) -> None:
    alike = [name for name, told in READ.items() if told is SHOP and name not in (*INSTANCES, NUMBERED)]
    assert len(alike) > 15
    for names in (alike, INSTANCES):
        digests = {name: replayed(name, tmp_path / name)[3] for name in names}
        assert len(set(digests.values())) == 1, digests
