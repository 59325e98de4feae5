"""Python source as `ruff format` lays it out: a group on one line, else one item per line.

Values enter generated code only through `literal`, documentation only through `docstring`, so
nothing in a workflow file can become code.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import attrs

WIDTH: Final = 100
"""Maximum columns of a line."""

_INDENT: Final = 4
_QUOTES: Final = '"""'
_UNSAFE_QUOTES: Final = re.compile(r'^"|"""|"$')


@attrs.frozen
class Atom:
    """Source that is never split over lines."""

    text: str


@attrs.frozen
class Group:
    """Items between an opening and a closing bracket."""

    opener: str
    items: tuple[Expr, ...]
    closer: str
    comma: str = ""


@attrs.frozen
class Prefixed:
    """An expression with a prefix: `default=`, or the key of a dict."""

    prefix: str
    inner: Expr


Expr: TypeAlias = Atom | Group | Prefixed


def literal(value: object) -> Expr:
    """Return the source of a JSON value, or of a tuple of JSON values."""
    match value:
        case str():
            return Atom(quoted(value))
        case tuple():
            items = cast("tuple[object, ...]", value)
            return Group("(", tuple(map(literal, items)), ")", "," if len(items) == 1 else "")
        case list():
            return Group("[", tuple(map(literal, cast("list[object]", value))), "]")
        case dict():
            entries = cast("dict[str, object]", value).items()
            pairs = (Prefixed(f"{quoted(key)}: ", literal(inner)) for key, inner in entries)
            return Group("{", tuple(pairs), "}")
        case float():
            return Atom(repr(value).replace("e+", "e"))
        case None | bool() | int():
            return Atom(repr(value))
        case _:
            raise TypeError(f"{type(value).__name__} has no literal form")


def quoted(text: str) -> str:
    """Return a string as a literal, in double quotes unless single ones need fewer escapes."""
    # The leading double quote makes `repr` choose single quotes and escape them.
    inner = repr('"' + text)[2:-1]
    if text.count('"') > text.count("'"):
        return f"'{inner}'"
    return '"' + inner.replace("\\'", "'").replace('"', '\\"') + '"'


def call(name: str, *arguments: object, **options: Expr) -> Group:
    """Return a call; arguments that are not expressions become literals."""
    plain = tuple(each if isinstance(each, Atom | Group) else literal(each) for each in arguments)
    named = tuple(Prefixed(f"{key}=", inner) for key, inner in options.items())
    return Group(f"{name}(", (*plain, *named), ")")


def layout(expr: Expr, indent: int = 0, before: int = 0, after: int = 0) -> str:
    """Return the source of an expression.

    Args:
        expr: The expression.
        indent: Columns of indentation of its line.
        before: Columns already used on that line, indentation included.
        after: Columns to leave free at the end.
    """
    flat = one_line(expr)
    if (before or indent) + columns(flat) + after <= WIDTH:
        return flat
    return _broken(expr, indent, before or indent, after)


def _broken(expr: Expr, indent: int, before: int, after: int) -> str:
    match expr:
        case Prefixed(prefix, inner):
            return prefix + layout(inner, indent, before + columns(prefix), after)
        case Group(opener, items, closer) if items:
            deeper = indent + _INDENT
            lines = [" " * deeper + layout(item, deeper, after=1) + "," for item in items]
            return "\n".join([opener, *lines, " " * indent + closer])
        case _:
            return one_line(expr)


def one_line(expr: Expr) -> str:
    """Return the source of an expression on one line of any length."""
    match expr:
        case Atom(text):
            return text
        case Prefixed(prefix, inner):
            return prefix + one_line(inner)
        case Group(opener, items, closer, comma):
            return opener + ", ".join(map(one_line, items)) + comma + closer


def declaration(name: str, annotation: Expr, value: Group, indent: int = _INDENT) -> str:
    """Return the source of an annotated assignment."""
    header = f"{name}: {one_line(annotation)} = "
    if indent + columns(header + value.opener) <= WIDTH:
        return header + layout(value, indent, indent + columns(header))
    header = f"{name}: {_broken(annotation, indent, indent, 0)} = "
    return header + layout(value, indent, columns(header.rpartition("\n")[2]))


def import_from(module: str, names: Sequence[str], indent: int = 0) -> str:
    """Return the source of an import, in brackets only if it needs several lines."""
    items = tuple(map(Atom, names))
    flat = one_line(Group(f"from {module} import ", items, ""))
    if indent + columns(flat) <= WIDTH:
        return flat
    return _broken(Group(f"from {module} import (", items, ")"), indent, indent, 0)


def columns(text: str) -> int:
    """Return the columns that a string takes: wide characters take two, combining marks none."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(letter: str) -> int:
    if unicodedata.category(letter) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def docstring(text: str | Sequence[str], wrap: int = 0) -> str:
    """Return text as a docstring.

    Args:
        text: Any text, its white space collapsed; or several lines, then the closing quotes get a
            line of their own.
        wrap: Columns of indentation of the continuation lines; 0 to never wrap.
    """
    if not isinstance(text, str):
        return "\n".join([_QUOTES + _escaped(text[0]), *map(_escaped, text[1:]), _QUOTES])
    source = f"{_QUOTES}{_escaped(text)}{_QUOTES}"
    if not wrap or len(source) != columns(source):
        return source
    if len(source) + wrap <= WIDTH:
        return source
    lines = textwrap.wrap(source, WIDTH - wrap, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * wrap).join(lines)


def _escaped(text: str) -> str:
    line = " ".join(text.split()).replace("\\", "\\u005c")
    if _UNSAFE_QUOTES.search(line):
        line = line.replace('"', "\\u0022")
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else _escape_letter(each) for each in line)


def _escape_letter(letter: str) -> str:
    if unicodedata.category(letter) == "Cs":
        # Python 3.13 refuses a docstring with a lone surrogate.
        return f"\\u005cu{ord(letter):04x}"
    return f"\\u{ord(letter):04x}" if ord(letter) < 2**16 else f"\\U{ord(letter):08x}"


def sentence(text: str) -> str:
    """Return text as one line with an initial capital and a full stop."""
    line = " ".join(text.split())
    word = line.partition(" ")[0].rstrip(",;:.")
    if word.replace("'", "").isalpha() and len(word[0].upper()) == 1:
        line = line[0].upper() + line[1:]
    return line if line.endswith((".", "!", "?")) else f"{line}."
