"""Workflows and bindings are untrusted: nothing in them runs or leaves the output folder."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyloom_codegen import generate
from comfyloom_codegen.bindings.toml_text import toml

MARK = "it_ran"
CALL = f"__import__('builtins').__dict__.__setitem__('{MARK}', 1)"
PAYLOADS = [
    CALL,
    f'"""\n{CALL}\n"""',
    f"''' + str({CALL}) + '''",
    f'" + str({CALL}) + "',
    f"\\\n{CALL}",
    f"x\r{CALL}\u2028{CALL}\x0c{CALL}",
    f"{{{{ {CALL} }}}}",
    f"{{% set x = {CALL} %}}",
    f"{{# #}}{CALL}",
    f"x){CALL}(",
    f"x\n\n    @staticmethod\n    def y(): {CALL}",
    f"# type: {CALL}",
    f"$({CALL}) %s %(x)s {{0}} {{x!r}}",
    '\\"""',
    '"""',
    "\\",
    "\ud800",
    "\x00",
    "../../x",
    "/etc/x",
    "..\\x",
    "~/x",
    "C:x",
]
texts = st.one_of(st.sampled_from(PAYLOADS), st.text(max_size=12))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
nodes = st.fixed_dictionaries(
    {"inputs": st.dictionaries(texts, values, max_size=4), "class_type": texts.filter(bool)},
    optional={"_meta": st.fixed_dictionaries({"title": texts})},
)
graphs = st.dictionaries(texts, nodes, min_size=1, max_size=4)
stems = texts.map(lambda text: "".join(c for c in text if c not in "/\0"))
safe_stems = stems.filter(lambda text: text.isprintable() and 0 < len(text.encode()) < 200)
writable = texts.filter(lambda text: "\ud800" not in text)


def mostly(usual: str) -> st.SearchStrategy[str]:
    """Return a valid string four times out of five; otherwise hardly any binding would be valid."""
    return st.one_of(*[st.just(usual)] * 4, writable)


bindings = st.fixed_dictionaries(
    {},
    optional={
        "class": mostly("Mine"),
        "command": mostly("mine"),
        "doc": writable,
        "name": mostly("thing"),
        "input_doc": writable,
        "default": writable,
        "choices": st.lists(writable, min_size=1, max_size=3),
        "file": mostly("a.png"),
        "key": writable,
        "result_doc": writable,
        "stage": writable,
    },
)
COUNT = itertools.count()


class Watch:
    """Records actions of the process that generating and importing have no reason to do."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, given: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event.startswith(("subprocess.", "os.system", "os.exec", "os.fork", "socket.")):
            self.seen.append(event)
        if event == "open" and isinstance(given[0], str | bytes):
            mode, flags = given[1], given[2]
            writes = set("wax+") & set(mode or "") or (isinstance(flags, int) and flags & 3)
            self._check(event, given[0]) if writes else None
        if event in ("os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink"):
            self._check(event, given[1] if event == "os.rename" else given[0])

    def _check(self, event: str, path: Any) -> None:
        assert self.allowed is not None
        where = Path(str(path)).absolute()
        if not any(where.is_relative_to(each) for each in self.allowed):
            self.seen.append(f"{event} {where}")

    @contextlib.contextmanager
    def within(self, *folders: Path) -> Iterator[None]:
        self.allowed, self.seen = tuple(map(str, folders)), []
        try:
            yield
        finally:
            self.allowed = None
        assert not self.seen


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def binding_text(given: dict[str, Any], graph: dict[str, Any]) -> str:
    """Return a binding that is valid TOML for any strings."""
    lines = [f"{key} = {toml(given[key])}" for key in ("class", "command", "doc") if key in given]
    node = next(iter(graph))
    names = list(graph[node]["inputs"])
    if node and names and "\ud800" not in node + names[0]:
        to = toml({"node": {"id": node}, "input": names[0]})
        lines += [f"[inputs.{toml(given.get('name', 'thing'))}]", f"to = [{to}]"]
        if "choices" in given:
            lines.append(f"choices = {toml(given['choices'])}")
        if "default" in given and "choices" not in given:
            lines.append(f"default = {toml(given['default'])}")
        lines.append(f"doc = {toml(given.get('input_doc', ''))}")
    if node and "\ud800" not in node:
        lines += ["[results.image]", 'kind = "image"', f"node = {toml({'id': node})}"]
        lines += [f"{key} = {toml(given[key])}" for key in ("file", "key") if key in given]
        lines.append(f"doc = {toml(given.get('result_doc', ''))}")
        lines += ["[[stages]]", "share = 1", f"name = {toml(given.get('stage', ''))}"]
        lines.append(f"nodes = [{toml({'id': node})}]")
    return "\n".join(lines) + "\n"


def check(watch: Watch, graph: dict[str, Any], stem: str, binding: str | None) -> bool:
    """Generate and import a workflow under the watch; return whether it could be generated."""
    package = f"untrusted_{next(COUNT)}"
    with tempfile.TemporaryDirectory() as name:
        here = Path(name).resolve()
        flows, out = here / "flows", here / "out"
        flows.mkdir()
        (flows / f"{stem}.json").write_text(json.dumps(graph), "utf-8")
        if binding is not None:
            (flows / f"{stem}.toml").write_text(binding, "utf-8")
        sys.path.insert(0, str(out))
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            with watch.within(out):
                report = generate(flows, out, package)
                if not report.errors:
                    importlib.invalidate_caches()
                    module = importlib.import_module(package)
                    assert module.__all__ == [each.__name__ for each in load(module)]
                    cls = load(module)[-1]
                    assert json.dumps(cls.template_graph()) == json.dumps(graph)
                    if all(not spec.required for spec in cls.__workflow__.inputs):
                        cls().to_graph()
            assert {path.name for path in here.iterdir()} <= {"flows", "out"}
            assert len(list(flows.iterdir())) == 1 + (binding is not None)
        finally:
            sys.dont_write_bytecode = before
            sys.path.remove(str(out))
            for loaded in [each for each in sys.modules if each.partition(".")[0] == package]:
                del sys.modules[loaded]
    assert not hasattr(builtins, MARK)
    return not report.errors


def load(module: Any) -> list[Any]:
    return [getattr(module, each) for each in module.__all__]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs, stem=safe_stems)
def test_nothing_in_a_workflow_runs_or_leaves_its_folder(
    watch: Watch, graph: dict[str, Any], stem: str
) -> None:
    assert check(watch, graph, stem, None)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs, stem=safe_stems, given_binding=bindings)
def test_nothing_in_any_binding_runs_or_leaves_its_folder(
    watch: Watch, graph: dict[str, Any], stem: str, given_binding: dict[str, Any]
) -> None:
    check(watch, graph, stem, binding_text(given_binding, graph))


@settings(max_examples=80, deadline=None)
@given(text=writable, doc=writable, default=writable, choices=st.lists(writable, min_size=1))
def test_nothing_in_a_valid_binding_runs_or_leaves_its_folder(
    watch: Watch, text: str, doc: str, default: str, choices: list[str]
) -> None:
    graph = {"1": {"inputs": {"text": text, "mode": default}, "class_type": "SaveImage"}}
    binding = (
        f"class = 'Mine'\ncommand = 'mine'\ndoc = {toml(doc)}\n"
        f"[inputs.words]\nto = ['1.text']\ndefault = {toml(default)}\ndoc = {toml(text)}\n"
        f"[inputs.mode]\nto = ['1.mode']\nchoices = {toml([default, *choices])}\n"
        f"[results.image]\nnode = '1'\nkey = {toml(doc)}\ndoc = {toml(default)}\n"
        f"[[stages]]\nname = {toml(doc)}\nshare = 1\nnodes = ['1']\n"
    )
    assert check(watch, graph, "a", binding)


def test_the_watch_notices_writes_and_processes(watch: Watch, tmp_path: Path) -> None:
    for act in (
        lambda: (tmp_path / "x").write_text("x"),
        lambda: (tmp_path / "d").mkdir(),
        lambda: __import__("subprocess").run(["true"], check=True),
    ):
        with pytest.raises(AssertionError), watch.within(tmp_path / "out"):
            act()
    exec(compile(CALL, "x", "exec"), {})
    assert getattr(builtins, MARK)
    delattr(builtins, MARK)
