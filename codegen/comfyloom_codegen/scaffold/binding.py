"""The text of an initial binding file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from comfyloom._workflow.node_schemas import Schemas
from comfyloom_codegen.bindings.naming import best_selector, best_target
from comfyloom_codegen.bindings.selectors import NodeIndex
from comfyloom_codegen.bindings.toml_text import entry_value, selector_value, toml
from comfyloom_codegen.modelling.docs import humanised
from comfyloom_codegen.modelling.model import InputField, ResultField
from comfyloom_codegen.modelling.unbound import MANY_DOC, RESULT_DOCS
from comfyloom_codegen.names import class_stem, kebab
from comfyloom_codegen.reading.files import WorkflowSource
from comfyloom_codegen.scaffold.guessing import Guess, GuessedInput, guess

_WIDTH: Final = 100
_HEADER: Final = """\
# The binding of {}: its public inputs and results.
#
# These are guesses: rename, describe, delete. A node is named by its title, its type or its id;
# `comfyloom codegen inspect` lists them, and `comfyloom codegen` generates the class.
"""


def initial_binding(source: WorkflowSource, schemas: Schemas) -> str:
    """Return an initial binding: guesses, and all other inputs as comments.

    Args:
        source: The workflow.
        schemas: The known schemas of its nodes.
    """
    writer = _BindingWriter(NodeIndex(source.graph))
    lines = [*_header(source), *writer.body(guess(source.graph, schemas))]
    return "\n".join(lines) + "\n"


def _header(source: WorkflowSource) -> Iterator[str]:
    yield _HEADER.format(_printable(source.file))
    yield f"class = {toml(class_stem(source.stem))}"
    yield f"command = {toml(kebab(source.stem))}"
    yield f"doc = {toml(f'The ComfyUI workflow {_printable(source.stem)}')}"


class _BindingWriter:
    def __init__(self, nodes: NodeIndex) -> None:
        self._nodes = nodes

    def body(self, found: Guess) -> Iterator[str]:
        if not found.inputs:
            yield from ("", "# Nothing to guess: default names for all inputs.", 'expose = ["*"]')
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
        if each.kind not in ("integer", "number"):  # the schema decides
            yield f"kind = {toml(each.kind)}"
        if each.required and each.kind == "text":
            yield "required = true"
        yield from self._to(
            [entry_value(best_target(self._nodes, target)) for target in each.targets]
        )
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

    def _result(self, name: str, result: ResultField) -> Iterator[str]:
        spec = result.spec
        yield f"[results.{toml_key(name)}]"
        yield f"kind = {toml(spec.kind)}"
        yield f"node = {toml(selector_value(best_selector(self._nodes, spec.node)))}"
        if spec.key:
            yield f"key = {toml(spec.key)}"
        if spec.file:
            yield f"file = {toml(name + spec.file.removeprefix(result.name))}"
        if spec.many:
            yield "many = true"
        yield f"doc = {toml(MANY_DOC if spec.many else RESULT_DOCS[spec.kind])}"

    def _field(self, field: InputField) -> Iterator[str]:
        (target,) = field.spec.targets
        yield f"[inputs.{toml_key(field.name)}]"
        yield from self._to([entry_value(best_target(self._nodes, (target.node, target.input)))])


def toml_key(name: str) -> str:
    """Return a name as a TOML key; TOML 1.0 allows only ASCII in bare keys."""
    return name if name.isascii() else toml(name)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
