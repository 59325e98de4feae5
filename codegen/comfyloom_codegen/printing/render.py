"""Python source from the model of a module, with templates that only loop."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from comfyloom._workflow.input_spec import MISSING, InputSpec, Kind, Target
from comfyloom._workflow.outputs import OUTPUT_TYPES, OutputKind, OutputSpec
from comfyloom_codegen.modelling.infer import ANY_SEED
from comfyloom_codegen.modelling.model import InputField, Module, ResultField
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
"""A module, and the names imported from it."""

_ALWAYS: Final = ("Result", "Workflow", "result_class", "workflow_class")
_ANNOTATIONS: Final[dict[Kind, str]] = {
    "image": "ImageSource",
    "mask": "ImageSource",
    "images": "ImageSources",
    "folder": "ImageSources",
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
_HEADER_END: Final = '\n"""\n'
# The linter checks capitals in some scripts only and reports some letters of others as ambiguous;
# RUF100 would report this line where it is not needed.
_NON_ASCII_NOQA: Final = "\n# ruff: noqa: N801, N802, RUF001, RUF002, RUF100\n"
_SEVERAL_BLANK_LINES: Final = re.compile(r"\n{4,}")


def render_module(module: Module, header: Sequence[str]) -> str:
    """Return the source of one module.

    Args:
        module: Its model.
        header: The lines of its docstring.
    """
    return _render(
        "module.py.jinja",
        module=module,
        header=header,
        imports=list(_imports(module)),
        result_doc=f"What one run of `{module.workflow}` gives.",
    )


def render_package(
    package: str, classes: Mapping[str, Sequence[str]], header: Sequence[str]
) -> str:
    """Return the source of `__init__.py`, which imports each class on first use.

    Args:
        package: The name of the package.
        classes: The class names of each module.
        header: The lines of its docstring.
    """
    if not classes:
        return f"{docstring(header)}\n\n__all__: list[str] = []\n"
    modules = sorted(classes, key=_natural_key)
    return _render(
        "package.py.jinja",
        header=header,
        imports=[(f"{package}.{name}", tuple(classes[name])) for name in modules],
        classes={name: tuple(classes[name]) for name in modules},
        names=[cls for name in modules for cls in classes[name]],
    )


def _render(template: str, **values: Any) -> str:
    text = _environment().get_template(template).render(values)
    # A class without fields leaves blank lines in their place.
    text = _SEVERAL_BLANK_LINES.sub("\n\n\n", text).rstrip("\n") + "\n"
    return text if text.isascii() else text.replace(_HEADER_END, _HEADER_END + _NON_ASCII_NOQA, 1)


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


def _declared(field: InputField | ResultField) -> str:
    if isinstance(field, ResultField):
        return declaration(field.name, Atom(_output_type(field.spec)), _output(field.spec))
    return declaration(field.name, _annotation(field), _input(field))


def _signature(field: InputField) -> str:
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
    if module.keep:
        options["keep"] = literal(module.keep)
    if module.runs_on:
        options["runs_on"] = literal(module.runs_on)
    return layout(call("workflow_class", **options), before=1)


# --- expressions ---------------------------------------------------------------------------------


def _input(field: InputField) -> Group:
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


def _annotation(field: InputField) -> Expr:
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
    # The import order of the linter: classes first.
    return name[0].islower(), name


def _natural_key(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
