"""A user's own servers and programs are found by name and sent to other processes.

Wrong names are refused in one line.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lrpc as package
from lrpc.cluster.on_ray.package import users_code_by_value
from lrpc.workloads.programs.registry import REGISTRY, load_registry
from tests.support.command import HERE, lrpc, record, refused
from tests.support.places import SAMPLE

TOWN = """
name = "town"
[machines.a]
[machines.b]
[domains.shop]
machine = "b"
exports.shop = { server = "shop", parameters = { price = 3 } }
[domains.buyer]
machine = "a"
imports = { shop = "shop" }
threads = [{ program = "buyer" }]
"""
# The classes import a sibling module; one annotation is text that only that module resolves.
CODE = """
from dataclasses import dataclass, field

import lrpc
import {prices} as prices

class Shop(lrpc.Interface):
    def buy(self, count: lrpc.Int32) -> lrpc.Int32:
        raise NotImplementedError

@dataclass
class ShopServer(Shop, lrpc.Server):
    price: "prices.Price" = 2
    asked: list[int] = field(default_factory=list)

    def buy(self, count: int) -> int:
        self.asked.append(count)
        return prices.total(count, self.price)

    def findings(self):
        return {{"asked": list(self.asked)}}

class Buyer(lrpc.Program):
    @property
    def imports(self):
        return ("shop",)

    def run(self, domain):
        assert domain.bind(Shop, "shop").buy(7) == 21

REGISTRY = lrpc.Registry({{"shop": ShopServer}}, {{"buyer": Buyer}})
OTHER = 5
"""
PRICES = """
Price = int

def total(count: int, price: int) -> int:
    return count * price
"""


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Write the scenario and a module of its classes in the current directory.

    Return the name of the module.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"town_{abs(hash(request.node.name)) % 10**9}"  # new for each test: modules stay imported
    (tmp_path / "town.toml").write_text(TOWN)
    (tmp_path / f"{name}.py").write_text(CODE.format(prices=f"{name}_prices"))
    (tmp_path / f"{name}_prices.py").write_text(PRICES)
    return name


@pytest.mark.parametrize("form", ["{}:REGISTRY", "{}.py:REGISTRY", "./{}.py:REGISTRY"])
def test_a_scenario_runs_with_classes_of_a_module_or_a_file(town: str, form: str) -> None:
    ended = lrpc("run", "town.toml", "--registry", form.format(town), *HERE, "--out", "out")
    assert ended.code == 0, ended.err
    found = record(Path("out"))
    assert found["machines"]["b"]["findings"] == {"shop": {"asked": [7]}}
    assert found["job"]["registry"] == form.format(town)
    (code,) = (one for one in found["inputs"] if one["argument"] == "registry")
    assert code["path"] == str(Path(f"{town}.py").absolute())


CLERKS = """

@dataclass
class Closed(ShopServer):
    def start(self):
        self.domain.export(Shop, ShopServer(), "back door", policy=lambda request: {policy})

@dataclass
class Helper(ShopServer):
    def start(self):
        self.domain.bind(Shop, "back door")

REGISTRY = lrpc.Registry({{"shop": Closed, "helper": Helper}}, {{"buyer": Buyer}})
"""


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("1 // 0", "raised ZeroDivisionError: integer division or modulo by zero"),
        ("self.domain.sleep(5)", "waits or takes time, and none passes outside a run; import in the body of a thread "),
        ("'family only'", "refused domain helper: family only"),
    ],
    ids=["raises", "waits", "refuses"],
)
def test_a_clerk_whose_policy_fails_is_told_in_one_line_before_the_run(town: str, policy: str, told: str) -> None:
    path = Path(f"{town}.py")
    path.write_text(path.read_text() + CLERKS.format(policy=policy))
    helper = '[domains.helper]\nmachine = "b"\nexports.help = { server = "helper" }\n'
    Path("town.toml").write_text(TOWN + helper)
    line = refused("run", "town.toml", "--registry", f"{path}:REGISTRY", *HERE)
    assert f"town: machine b: import back door: its clerk {told}" in line


LATE = """

@dataclass
class Closed(ShopServer):
    def start(self):
        self.domain.export(Shop, ShopServer(), "late", policy=lambda request: {{}}[request.client])

class Late(lrpc.Program):
    def run(self, domain):
        domain.bind(Shop, "late")

REGISTRY = lrpc.Registry({{"shop": Closed}}, {{"buyer": Buyer, "late": Late}})
"""


def test_a_clerk_whose_policy_raises_in_a_run_fails_it_in_one_line_and_the_record_says_where(town: str) -> None:
    """No file has a key for a policy, which is code: so the run fails, and nothing is refused."""
    path = Path(f"{town}.py")
    path.write_text(path.read_text() + LATE.format())
    Path("town.toml").write_text(TOWN + '[domains.late]\nmachine = "b"\nthreads = [{ program = "late" }]\n')
    ended = lrpc("run", "town.toml", "--registry", f"{path}:REGISTRY", *HERE, "--out", "out")
    assert ended.code == 3
    assert ended.line.startswith("lrpc: machine b, thread late/0 of domain late, at ")
    assert ": BindingRefused: import late: its clerk raised KeyError: 'late'" in ended.line
    assert f"{path.absolute()}, line " in record(Path("out"))["reason"]


def test_a_record_alone_runs_nobodys_code(town: str) -> None:
    lrpc("run", "town.toml", "--registry", f"{town}.py:REGISTRY", *HERE, "--out", "out")
    assert f"add --registry {Path(town).absolute()}.py:REGISTRY" in refused("verify", "out", *HERE)
    ended = lrpc("verify", "out", *HERE, "--registry", f"{town}:REGISTRY")
    assert (ended.code, ended.out.split(":")[0]) == (0, "the same")


def test_a_record_is_verified_with_the_code_that_it_was_made_with(town: str) -> None:
    lrpc("run", "town.toml", "--registry", f"{town}.py:REGISTRY", *HERE, "--out", "out")
    path = Path(f"{town}.py")
    path.write_text(path.read_text() + "\n")
    assert "differs from the file that out was made with" in refused(
        "verify", "out", *HERE, "--registry", f"{path}:REGISTRY"
    )


def test_a_sweep_runs_with_a_registry_and_is_refused_without(town: str) -> None:
    sweep = 'name = "prices"\njob = { kind = "run", scenario = "town.toml" }\n'
    sweep += '[parameters]\n"domains.shop.exports.shop.parameters.price" = [3]\n'
    Path("sweep.toml").write_text(sweep)
    assert "unknown: buyer" in refused("sweep", "sweep.toml", "--out", "runs", "--parallel", 0)
    registry = f"{town}:REGISTRY"
    assert lrpc("sweep", "sweep.toml", "--out", "runs", "--parallel", 0, "--registry", registry).code == 0
    assert record(Path("runs/00001"))["status"] == "complete"
    named = sweep.replace('"town.toml"', f'"town.toml", registry = "{registry}"')
    Path("named.toml").write_text(named)
    assert f"add --registry {registry}" in refused("sweep", "named.toml", "--out", "others", "--parallel", 0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("nothing", "write module:NAME or path.py:NAME"),
        ("a:b:c-d", "write module:NAME or path.py:NAME"),
        ("town.toml:REGISTRY", "is not a Python file"),
        ("absent.py:REGISTRY", "No such file or directory"),
        ("absent_module:REGISTRY", "No module named 'absent_module'"),
        ("{}:OTHER", "has no lrpc.Registry named OTHER; its registries: REGISTRY"),
        ("{}:NONE", "has no lrpc.Registry named NONE; its registries: REGISTRY"),
    ],
)
def test_a_registry_that_cannot_be_had_is_refused_in_one_line(town: str, given: str, told: str) -> None:
    said = refused("run", "town.toml", "--registry", given.format(town), *HERE, "--out", "out")
    assert told in said
    assert not Path("out").exists()


def test_a_sweep_is_not_resumed_with_other_code(town: str) -> None:
    Path("sweep.toml").write_text(
        'name = "prices"\njob = { kind = "run", scenario = "town.toml" }\n'
        '[parameters]\n"domains.shop.exports.shop.parameters.price" = [3]\n'
    )
    command = ("sweep", "sweep.toml", "--out", "runs", "--parallel", 0, "--registry", f"{town}.py:REGISTRY")
    assert lrpc(*command).code == 0
    assert "1 of them done" in lrpc(*command, "--dry-run").out
    Path(f"{town}.py").write_text(Path(f"{town}.py").read_text() + "\n")
    assert "0 of them done" in lrpc(*command, "--dry-run").out


def test_a_file_that_has_changed_is_imported_anew_and_the_record_names_what_ran(town: str) -> None:
    path = Path(f"{town}.py")
    before = load_registry(f"{path}:REGISTRY")
    path.write_text(path.read_text().replace("self.asked.append(count)", "self.asked.append(-count)"))
    after = load_registry(f"{path}:REGISTRY")
    assert before.digest != after.digest
    assert before.registry.servers["shop"] is not after.registry.servers["shop"]
    result = package.run(package.read_cluster("town.toml", registry=f"{path}:REGISTRY"))
    assert result.findings["b"]["shop"] == {"asked": [-7]}
    assert [one.digest for one in result.record.inputs if one.argument == "registry"] == [after.digest]


def test_a_module_that_has_changed_since_it_was_imported_is_refused(town: str) -> None:
    load_registry(f"{town}:REGISTRY")
    Path(f"{town}.py").write_text(Path(f"{town}.py").read_text() + "\n")
    with pytest.raises(package.Refused, match="has changed since it was imported"):
        load_registry(f"{town}:REGISTRY")


def test_a_registrys_file_takes_the_place_of_no_other_module(town: str) -> None:
    """A registry file may have the name of a library, or of a file in another folder."""
    code = Path(f"{town}.py").read_text()
    found = []
    for folder in ("one", "other"):
        Path(folder).mkdir()
        Path(folder, f"{town}_prices.py").write_text(PRICES)
        Path(folder, "json.py").write_text(code + f"\nPLACE = {folder!r}\n")
        found.append(load_registry(f"{folder}/json.py:REGISTRY").registry.servers["shop"])
    assert sys.modules["json"] is json
    assert [sys.modules[kind.__module__].PLACE for kind in found] == ["one", "other"]


def test_where_no_registry_can_be_used_none_is_imported(town: str) -> None:
    Path("loud.py").write_text("raise RuntimeError('it ran')\n")
    lrpc("replay", SAMPLE, "--machines", 2, *HERE, "--out", "replayed")
    assert "leave the option out" in refused("verify", "replayed", *HERE, "--registry", "loud.py:R")
    sweep = f'name = "replays"\n[job]\nkind = "replay"\ntrace = "{SAMPLE}"\n[parameters]\nmachines = [1, 2]\n'
    Path("replays.toml").write_text(sweep.replace("[parameters]", "machines = 1\n[parameters]"))
    assert "leave the option out" in refused("sweep", "replays.toml", "--out", "runs", "--registry", "loud.py:R")


def test_modules_of_a_script_and_what_they_use_are_a_users(town: str) -> None:
    """The classes of a script or notebook are in `__main__`, which is never sent itself."""
    script = Path("script.py")
    script.write_text(
        f"import {town}_prices\n" + CODE.format(prices=f"{town}_prices") + "\nimport lrpc\n"
        "from lrpc.cluster.on_ray.package import _users_modules\n"
        "cluster = lrpc.read_cluster('town.toml', registry=REGISTRY)\n"
        "print([module.__name__ for module in _users_modules(cluster.description)])\n"
    )
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert said == f"['{town}_prices']\n"


def test_a_server_may_be_a_frozen_dataclass(town: str) -> None:
    code = Path(f"{town}.py").read_text()
    assert "@dataclass\nclass ShopServer" in code
    Path(f"{town}_frozen.py").write_text(
        code.replace("@dataclass\nclass ShopServer", "@dataclass(frozen=True)\nclass ShopServer")
    )
    assert lrpc("run", "town.toml", "--registry", f"{town}_frozen.py:REGISTRY", *HERE, "--out", "out").code == 0


def test_a_record_of_a_registry_given_as_an_object_needs_one_to_be_verified(town: str) -> None:
    own = load_registry(f"{town}:REGISTRY").registry
    registry = package.Registry({"shop": own.servers["shop"]}, {"buyer": own.programs["buyer"]})
    package.run(package.read_cluster("town.toml", registry=registry)).save("kept")
    assert "add --registry module:NAME or path.py:NAME" in refused("verify", "kept", *HERE)
    assert lrpc("verify", "kept", *HERE, "--registry", f"{town}:REGISTRY").code == 0


def test_what_a_users_module_raises_is_told_with_its_place(town: str) -> None:
    Path(f"{town}_bad.py").write_text("import lrpc\n\nlrpc.nothing\n")
    said = refused("run", "town.toml", "--registry", f"{town}_bad.py:R", *HERE)
    assert f"{town}_bad.py, line 3" in said
    assert "has no attribute 'nothing'" in said
    Path(f"{town}_exit.py").write_text("raise SystemExit(0)\n")
    assert "importing it raised SystemExit" in refused("run", "town.toml", "--registry", f"{town}_exit.py:R", *HERE)
    Path(f"{town}_lacks.py").write_text("import absent_library\n")
    said = refused("run", "town.toml", "--registry", f"{town}_lacks.py:R", *HERE)
    assert said.endswith("No module named 'absent_library'; install it, or correct the module")


@pytest.mark.parametrize(
    ("servers", "programs", "told"),
    [
        ('{"file server": S}', "{}", "server file server: lrpc has one of that name"),
        ("{}", '{"caller": P}', "program caller: lrpc has one of that name"),
        ('{"shop": P}', "{}", "is not a class derived from lrpc.Server"),
        ('{"shop": 3}', "{}", "3 is not a class derived from lrpc.Server"),
        ("3", "{}", "give a dictionary of classes by name"),
    ],
)
def test_a_registry_that_does_not_fit_is_refused(town: str, servers: str, programs: str, told: str) -> None:
    path = Path(f"{town}_odd.py")
    classes = "class S(lrpc.Server): pass\nclass P(lrpc.Program): pass\n"
    path.write_text(f"import lrpc\n{classes}REGISTRY = lrpc.Registry({servers}, {programs})\n")
    assert told in refused("run", "town.toml", "--registry", f"{path}:REGISTRY", *HERE)


def test_a_plain_class_has_no_parameters_and_must_be_made_without_any(town: str) -> None:
    path = Path(f"{town}_plain.py")
    path.write_text(
        "import lrpc\nclass P(lrpc.Program):\n    def __init__(self, rounds): pass\n"
        'REGISTRY = lrpc.Registry({}, {"plain": P})\n'
    )
    scenario = TOWN.partition("[domains.shop]")[0] + '[domains.x]\nmachine = "a"\nthreads = [{ program = "plain" }]\n'
    Path("plain.toml").write_text(scenario)
    said = refused("run", "plain.toml", "--registry", f"{path}:REGISTRY", *HERE)
    assert "class P cannot be made without arguments" in said
    assert "make it a dataclass" in said
    Path("plain.toml").write_text(scenario.replace('"plain" }', '"plain", parameters = { rounds = 2 } }'))
    said = refused("run", "plain.toml", "--registry", f"{path}:REGISTRY", *HERE)
    assert "threads.0.parameters: rounds: class P takes no parameters; make it a dataclass" in said


def test_a_users_classes_reach_a_process_that_lacks_their_modules(town: str) -> None:
    """Run the cluster from its pickled bytes alone, as Ray's workers on other nodes do."""
    from ray import cloudpickle

    own = load_registry(f"{town}:REGISTRY")
    cluster = package.read_cluster("town.toml", registry=f"{town}:REGISTRY").description
    assert own.registry.servers["shop"] is cluster.machines[1].domains[0].exports[0].server
    with users_code_by_value(cluster):
        Path("cluster.pickle").write_bytes(cloudpickle.dumps(cluster))  # type: ignore[no-untyped-call]
    code = (
        "import pickle, sys\nfrom lrpc.cluster.run import run_cluster\n"
        "cluster = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(run_cluster(cluster, actors=0, transport='memory').digest)\n"
    )
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    command = [sys.executable, "-c", code, str(Path("cluster.pickle").absolute())]
    said = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True).stdout
    lrpc("run", "town.toml", "--registry", f"{town}:REGISTRY", *HERE, "--out", "out")
    assert said.strip() == record(Path("out"))["digest"]


def test_lrpcs_own_registry_is_not_changed_by_a_users(town: str) -> None:
    before = dict(REGISTRY.servers)
    assert "shop" in load_registry(f"{town}:REGISTRY").registry.servers
    assert REGISTRY.servers == before
