"""The binding file to start from, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from comfyloom._workflow.node_schemas import Schemas
from comfyloom_codegen.bindings.naming import best_selector, best_target
from comfyloom_codegen.bindings.selectors import Nodes
from comfyloom_codegen.bindings.toml_text import entry_value, selector_value, toml
from comfyloom_codegen.modelling.docs import humanised
from comfyloom_codegen.modelling.model import Field, Result
from comfyloom_codegen.modelling.unbound import RESULT_DOCS
from comfyloom_codegen.names import class_stem, kebab
from comfyloom_codegen.reading.files import Source
from comfyloom_codegen.scaffold.guessing import Guess, GuessedInput, guess

_WIDTH: Final = 100
_HEAD: Final = """\
# The binding of {}: what its callers set and get, and under which names.
#
# These are guesses: rename, describe, delete. A node is named by its title, its class or its id;
# `comfyloom codegen inspect` shows them all, and `comfyloom codegen` makes the class.
"""


def starting_binding(source: Source, schemas: Schemas) -> str:
    """Return a binding for a workflow: guesses, and all the rest ready to be uncommented.

    Args:
        source: The workflow.
        schemas: The schemas of its nodes, as far as they are known.
    """
    writer = _Writer(Nodes(source.graph))
    lines = [*_head(source), *writer.body(guess(source.graph, schemas))]
    return "\n".join(lines) + "\n"


def _head(source: Source) -> Iterator[str]:
    yield _HEAD.format(_comment(source.file))
    yield f"class = {toml(class_stem(source.stem))}"
    yield f"command = {toml(kebab(source.stem))}"
    yield f"doc = {toml(f'The ComfyUI workflow {_comment(source.stem)}')}"


class _Writer:
    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def body(self, found: Guess) -> Iterator[str]:
        if not found.inputs:
            yield from ("", "# No guess is any better than the names by rule.", 'expose = ["*"]')
        for each in found.inputs:
            yield from ("", *self._input(each))
        for name, result in found.results:
            yield from ("", *self._result(name, result))
        if found.rest and found.inputs:
            yield from ("", f"# {' more '.center(96, '-')}")
        for field in found.rest if found.inputs else ():
            yield from ("", *(f"# {line}" for line in self._field(field)))

    def _input(self, each: GuessedInput) -> Iterator[str]:
        yield f"[inputs.{toml_key(each.name)}]"
        if each.kind not in ("integer", "number"):  # a schema knows better
            yield f"kind = {toml(each.kind)}"
        if each.required and each.kind == "text":
            yield "required = true"
        yield from self._to([entry_value(best_target(self._nodes, at)) for at in each.targets])
        if len(each.targets) > 1 and each.kind == "text" and not each.required:
            yield f"default = {toml(each.default)}"
        yield f"doc = {toml(each.doc or humanised(each.name).capitalize())}"

    def _to(self, values: list[object]) -> Iterator[str]:
        line = f"to = [{', '.join(map(toml, values))}]"
        if len(line) <= _WIDTH:
            yield line
            return
        yield "to = ["
        yield from (f"    {toml(value)}," for value in values)
        yield "]"

    def _result(self, name: str, result: Result) -> Iterator[str]:
        spec = result.spec
        yield f"[results.{toml_key(name)}]"
        yield f"kind = {toml(spec.kind)}"
        yield f"node = {toml(selector_value(best_selector(self._nodes, spec.node)))}"
        if spec.key:
            yield f"key = {toml(spec.key)}"
        if spec.file:
            yield f"file = {toml(name + spec.file.removeprefix(result.name))}"
        yield f"doc = {toml(RESULT_DOCS[spec.kind])}"

    def _field(self, field: Field) -> Iterator[str]:
        (target,) = field.spec.targets
        yield f"[inputs.{toml_key(field.name)}]"
        yield from self._to([entry_value(best_target(self._nodes, (target.node, target.input)))])


def toml_key(name: str) -> str:
    """Return a name as a key: bare keys are ASCII in TOML 1.0."""
    return name if name.isascii() else toml(name)


def _comment(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
