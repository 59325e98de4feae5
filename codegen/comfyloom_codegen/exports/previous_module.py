"""The public names of a module generated earlier, read from its source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import attrs

from comfyloom._workflow.input_spec import Target


@attrs.frozen(kw_only=True)
class PreviousModule:
    """The public names of a module.

    Attributes:
        inputs: The targets of each input, by name.
        results: The node of each result, by name.
        stages: The nodes of each stage, in order.
        keep: The nodes that run although no result needs them, in order.
    """

    inputs: dict[str, tuple[Target, ...]]
    results: dict[str, str]
    stages: tuple[tuple[str, ...], ...] = ()
    keep: tuple[str, ...] = ()


def read_previous(source: str) -> PreviousModule | None:
    """Return the public names of a generated module, None if its source is not valid Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    inputs: dict[str, tuple[Target, ...]] = {}
    results: dict[str, str] = {}
    for name, call in _fields(tree):
        match call.func:
            case ast.Attribute(value=ast.Name(id="inputs")):
                inputs[name] = tuple(_targets(call))
            case ast.Attribute(value=ast.Name(id="outputs")):
                results[name] = next(_texts(call), "")
            case _:
                continue
    return PreviousModule(
        inputs=inputs, results=results, stages=tuple(_stages(tree)), keep=tuple(_kept(tree))
    )


def _fields(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for cls in tree.body:
        for statement in cls.body if isinstance(cls, ast.ClassDef) else ():
            match statement:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call):
                    yield name, call
                case _:
                    continue


def _stages(tree: ast.Module) -> Iterator[tuple[str, ...]]:
    for cls in tree.body:
        for decorator in cls.decorator_list if isinstance(cls, ast.ClassDef) else ():
            for call in ast.walk(decorator):
                match call:
                    case ast.Call(func=ast.Name(id="Stage"), args=[_, ast.Tuple(elts=nodes), _]):
                        yield tuple(str(n.value) for n in nodes if isinstance(n, ast.Constant))
                    case _:
                        continue


def _kept(tree: ast.Module) -> Iterator[str]:
    for cls in tree.body:
        for decorator in cls.decorator_list if isinstance(cls, ast.ClassDef) else ():
            for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
                match keyword:
                    case ast.keyword(arg="keep", value=ast.Tuple(elts=nodes)):
                        yield from (str(n.value) for n in nodes if isinstance(n, ast.Constant))
                    case _:
                        continue


def _targets(call: ast.Call) -> Iterator[Target]:
    for argument in call.args:
        inner = argument.args[0] if isinstance(argument, ast.Call) else argument
        match inner:
            case ast.Constant(value=str(text)):
                yield Target.parse(text)
            case _:
                continue


def _texts(call: ast.Call) -> Iterator[str]:
    for argument in call.args:
        match argument:
            case ast.Constant(value=str(text)):
                yield text
            case _:
                continue
