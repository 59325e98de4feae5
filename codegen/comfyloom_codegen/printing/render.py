"""From the model to Python source, by templates that only loop."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from comfyloom._workflow.inputs import MISSING, InputSpec, Kind, Target
from comfyloom._workflow.outputs import OUTPUT_TYPES, OutputKind, OutputSpec
from comfyloom_codegen.modelling.infer import ANY_SEED
from comfyloom_codegen.modelling.model import Field, Module, Result
from comfyloom_codegen.pycode import (
    Atom,
    Expr,
    Group,
    Prefixed,
    call,
    declaration,
    docstring,
    import_from,
    layout,
    literal,
)

if TYPE_CHECKING:
    import jinja2

Import: TypeAlias = tuple[str, tuple[str, ...]]
"""A module, and the names taken from it."""

_ALWAYS: Final = ("Result", "Workflow", "result_class", "workflow_class")
_ANNOTATIONS: Final[dict[Kind, str]] = {
    "image": "ImageSource",
    "mask": "ImageSource",
    "audio": "FileSource",
    "video": "FileSource",
    "file": "FileSource",
    "text": "str",
    "number": "float",
    "integer": "int",
    "flag": "bool",
    "seed": "int | None",
    "value": "Any",
}
_OUTPUT_TYPES: Final[dict[OutputKind, str]] = {
    **{kind: cls.__name__ for kind, cls in OUTPUT_TYPES.items()},
    "text": "str",
    "json": "Any",
}
_HEAD_END: Final = '\n"""\n'
# The linter knows capitals in some scripts only and suspects some letters of others; where it has
# nothing to say it would complain of this line.
_FOREIGN_LETTERS: Final = "\n# ruff: noqa: N801, N802, RUF001, RUF002, RUF100\n"
_SEVERAL_BLANK_LINES: Final = re.compile(r"\n{4,}")


def render_module(module: Module, head: Sequence[str]) -> str:
    """Return the source of one module.

    Args:
        module: Its model.
        head: The lines of its docstring.
    """
    return _render(
        "module.py.jinja",
        module=module,
        head=head,
        imports=list(_imports(module)),
        result_doc=f"What one run of `{module.workflow}` gives.",
    )


def render_package(package: str, homes: Mapping[str, Sequence[str]], head: Sequence[str]) -> str:
    """Return the source of the package that imports a class when it is first used.

    Args:
        package: The name of the package.
        homes: The names of the classes of each module.
        head: The lines of its docstring.
    """
    if not homes:
        return f"{docstring(head)}\n\n__all__: list[str] = []\n"
    modules = sorted(homes, key=_natural)
    return _render(
        "package.py.jinja",
        head=head,
        imports=[(f"{package}.{name}", tuple(homes[name])) for name in modules],
        homes={name: tuple(homes[name]) for name in modules},
        names=[cls for name in modules for cls in homes[name]],
    )


def _render(template: str, **values: Any) -> str:
    text = _environment().get_template(template).render(values)
    # A class without fields leaves the place of its fields empty.
    text = _SEVERAL_BLANK_LINES.sub("\n\n\n", text).rstrip("\n") + "\n"
    return text if text.isascii() else text.replace(_HEAD_END, _HEAD_END + _FOREIGN_LETTERS, 1)


@functools.cache
def _environment() -> jinja2.Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("comfyloom_codegen.printing"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        docstring=docstring,
        literal=_literal,
        imported=_imported,
        declared=_declared,
        signature=_signature,
        decorator=_decorator,
    )
    return environment


# --- filters -------------------------------------------------------------------------------------


def _literal(value: object, before: int = 0) -> str:
    return layout(literal(value), before=before)


def _imported(block: Import, indent: int = 0) -> str:
    return import_from(*block, indent)


def _declared(field: Field | Result) -> str:
    if isinstance(field, Result):
        return declaration(field.name, Atom(_output_type(field.spec)), _output(field.spec))
    return declaration(field.name, _annotation(field), _input(field))


def _signature(field: Field) -> str:
    value = Prefixed("value: ", _annotation(field))
    return layout(Group(f"def with_{field.name}(", (Atom("cls"), value), ") -> Self:"), indent=4)


def _decorator(module: Module) -> str:
    stages = tuple(call("Stage", stage.name, stage.nodes, stage.share) for stage in module.stages)
    options: dict[str, Expr] = {
        "graph": literal(f"{module.name}.json"),
        "command": literal(module.command),
    }
    if stages:
        options["stages"] = Group("(", stages, ")", "," if len(stages) == 1 else "")
    return layout(call("workflow_class", **options), before=1)


# --- expressions ---------------------------------------------------------------------------------


def _input(field: Field) -> Group:
    spec = field.spec
    options: dict[str, Expr] = {}
    if spec.choices:
        options["choices"] = literal(spec.choices)
    if field.default is not MISSING:
        options["default"] = literal(field.default)
    if spec.ge is not None:
        options["ge"] = literal(spec.ge)
    if spec.le is not None and not (spec.kind == "seed" and spec.le >= ANY_SEED):
        options["le"] = literal(spec.le)
    return call(f"inputs.{spec.kind}", *map(_target, spec.targets), **options)


def _target(target: Target) -> Expr:
    node = target.node.replace(".", r"\.")
    address = literal(f"{node}.{target.input}")
    if target.modulo is None:
        return address
    return call("inputs.reduced", address, Atom(_power(target.modulo)))


def _power(number: int) -> str:
    is_power = number > 1024 and number & (number - 1) == 0
    return f"2**{number.bit_length() - 1}" if is_power else str(number)


def _output(spec: OutputSpec) -> Group:
    options: dict[str, Expr] = {}
    if spec.file:
        options["file"] = literal(spec.file)
    if spec.many:
        options["many"] = literal(True)
    if not spec.required and spec.kind != "json":
        options["default"] = literal(() if spec.many else None)
    keys = (spec.key,) if spec.key else ()
    return call(f"outputs.{spec.kind}", spec.node, *keys, **options)


def _output_type(spec: OutputSpec) -> str:
    name = _OUTPUT_TYPES[spec.kind]
    if spec.many:
        return f"tuple[{name}, ...]"
    return name if spec.required or spec.kind == "json" else f"{name} | None"


def _annotation(field: Field) -> Expr:
    spec = field.spec
    if spec.kind == "choice":
        return Group("Literal[", tuple(map(literal, spec.choices)), "]")
    name = _ANNOTATIONS[spec.kind]
    return Atom(f"{name} | None" if spec.is_file and not spec.required else name)


def _imports(module: Module) -> Iterable[Import]:
    specs = [field.spec for field in module.fields]
    typing = {"Self" for _ in specs} | {_TYPING[s.kind] for s in specs if s.kind in _TYPING}
    typing |= {"Any" for result in module.results if result.spec.kind == "json"}
    if typing:
        yield "typing", tuple(sorted(typing))
    yield "comfyloom", tuple(sorted(_used(module, specs), key=_import_order))


_TYPING: Final = {"choice": "Literal", "value": "Any"}


def _used(module: Module, specs: list[InputSpec]) -> set[str]:
    used = set(_ALWAYS)
    used |= {"chainable", "inputs"} if specs else set()
    used |= {"outputs"} if module.results else set()
    used |= {"Stage"} if module.stages else set()
    used |= {_ANNOTATIONS[spec.kind] for spec in specs if spec.is_file}
    return used | {_OUTPUT_TYPES[each.spec.kind] for each in module.results if each.spec.is_file}


def _import_order(name: str) -> tuple[bool, str]:
    # The order of the linter: classes before the rest.
    return name[0].islower(), name


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
