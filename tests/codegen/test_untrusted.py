"""A workflow and its binding are somebody else's: nothing in them runs, or leads elsewhere."""

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
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from comfyloom_codegen import generate
from comfyloom_codegen.toml_text import toml

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
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
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
bindings = st.fixed_dictionaries(
    {},
    optional={
        "class": st.sampled_from(["Mine"]) | writable,
        "command": st.sampled_from(["mine"]) | writable,
        "doc": writable,
        "name": st.sampled_from(["value"]) | writable,
        "input_doc": writable,
        "default": writable,
        "choices": st.lists(writable, min_size=1, max_size=3),
        "file": st.sampled_from(["a.png"]) | writable,
        "key": writable,
        "result_doc": writable,
        "stage": writable,
    },
)
COUNT = itertools.count()


class Watch:
    """Notes what a process does that a generator and an import have no reason to do."""

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
    """Return a binding that is TOML whatever its texts are."""
    lines = [f"{key} = {toml(given[key])}" for key in ("class", "command", "doc") if key in given]
    node = next(iter(graph))
    names = list(graph[node]["inputs"])
    if names and "\ud800" not in node + names[0]:
        to = toml({"node": {"id": node}, "input": names[0]})
        lines += [f"[inputs.{toml(given.get('name', 'value'))}]", f"to = [{to}]"]
        if "choices" in given:
            lines.append(f"choices = {toml(given['choices'])}")
        if "default" in given:
            lines.append(f"default = {toml(given['default'])}")
        lines.append(f"doc = {toml(given.get('input_doc', ''))}")
    if "\ud800" not in node:
        lines += ["[results.image]", 'kind = "image"', f"node = {toml({'id': node})}"]
        lines += [f"{key} = {toml(given[key])}" for key in ("file", "key") if key in given]
        lines.append(f"doc = {toml(given.get('result_doc', ''))}")
        lines += ["[[stages]]", "share = 1", f"name = {toml(given.get('stage', ''))}"]
        lines.append(f"nodes = [{toml({'id': node})}]")
    return "\n".join(lines) + "\n"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs, stem=safe_stems, given_binding=st.none() | bindings)
def test_nothing_of_a_workflow_runs_or_leads_out(
    watch: Watch, graph: dict[str, Any], stem: str, given_binding: dict[str, Any] | None
) -> None:
    package = f"untrusted_{next(COUNT)}"
    with tempfile.TemporaryDirectory() as name:
        here = Path(name).resolve()
        flows = here / "flows"
        flows.mkdir()
        (flows / f"{stem}.json").write_text(json.dumps(graph), "utf-8")
        if given_binding is not None:
            text = binding_text(given_binding, graph)
            (flows / f"{stem}.toml").write_text(text, "utf-8")
        out = here / "out"
        sys.path.insert(0, str(out))
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            with watch.within(out):
                report = generate(flows, out, package)
                event("errors" if report.errors else "bound" if given_binding else "unbound")
                assert given_binding is not None or not report.errors
                if not report.errors:
                    importlib.invalidate_caches()
                    module = importlib.import_module(package)
                    for each in module.__all__:
                        getattr(module, each)
                    cls = getattr(module, module.__all__[-1])
                    assert json.dumps(cls.template_graph()) == json.dumps(graph)
                    if all(not spec.required for spec in cls.spec_.inputs):
                        cls().to_graph()
            assert not hasattr(builtins, MARK)
            assert {path.name for path in here.iterdir()} <= {"flows", "out"}
            assert len(list(flows.iterdir())) == 1 + (given_binding is not None)
        finally:
            sys.dont_write_bytecode = before
            sys.path.remove(str(out))
            for loaded in [each for each in sys.modules if each.partition(".")[0] == package]:
                del sys.modules[loaded]


def test_the_watch_notices_what_it_is_for(watch: Watch, tmp_path: Path) -> None:
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
