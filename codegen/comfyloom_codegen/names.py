"""Python names out of whatever nodes, inputs and files are called."""

from __future__ import annotations

import functools
import keyword
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Final

WIDEST: Final = 60
"""Characters of the longest name: a line that holds it still fits."""

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Words of the field whose capitals are no beginnings of words.
_ONE_WORD: Final = re.compile(r"LoRA|UNet")
_NO_LETTERS: Final = re.compile(r"[^a-z0-9]+")
_SIGNS: Final = re.compile(r"[+-]+$")
_SPELLED: Final = {"+": " plus", "-": " minus"}

# What a generated class body refers to: a field of that name would hide it from the fields below.
_BODY: Final = frozenset(
    {"AnimationOutput", "AudioOutput", "FileOutput", "ImageOutput", "MeshOutput", "VideoOutput"}
    | {"Any", "FileSource", "ImageSource", "Literal", "Self"}
    | {"bool", "chainable", "cls", "float", "inputs", "int", "outputs", "self", "str", "tuple"}
)
# What the base classes have, and what reads as if they had it.
WORKFLOW_NAMES: Final = _BODY | {
    *("__workflow__", "template_graph", "to_graph"),
    *("build", "run", "value"),
}
RESULT_NAMES: Final = _BODY | {"prompt_id", "seconds", "seed", "seeds", "ui"}


class PythonName(str):
    """A name for a field or a module; it cannot hold anything else.

    Raises:
        ValueError: The text is no identifier, is a keyword, or begins with an underscore.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> PythonName:
        """Make a name of `text` as it is."""
        reason = illegal(text)
        if reason:
            raise ValueError(f"{text!r} {reason}")
        return super().__new__(cls, text)


class ClassName(PythonName):
    """A name for a class; it cannot hold anything else, nor begin with a small letter.

    Raises:
        ValueError: The text is no such name.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> ClassName:
        """Make a name of `text` as it is."""
        if text[:1].islower():
            raise ValueError(f"{text!r} begins with a small letter")
        made = super().__new__(cls, text)
        assert isinstance(made, ClassName)
        return made


def illegal(text: str, reserved: Iterable[str] = ()) -> str:
    """Return why `text` cannot be a name, "" if it can."""
    if not text.isidentifier() or unicodedata.normalize("NFKC", text) != text:
        return "is no Python identifier"
    if keyword.iskeyword(text):
        return "is a Python keyword"
    if text.startswith("_"):
        return "begins with an underscore"
    if len(text) > WIDEST:
        return f"is longer than {WIDEST} characters"
    return "is taken by the base class" if text in reserved else ""


@functools.lru_cache(maxsize=4096)
def snake(text: str, limit: int = WIDEST) -> str:
    """Return `text` as the words of an identifier, at most `limit` characters; "" if none is left.

    Letters of any script stay; a trailing plus or minus is spelled out, because packs of nodes
    tell their variants apart by it.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    spelled = _SIGNS.sub(lambda found: "".join(map(_SPELLED.__getitem__, found[0])), plain)
    spelled = _ONE_WORD.sub(lambda found: found[0].capitalize(), spelled)
    small = unicodedata.normalize("NFKC", _CAMEL.sub(" ", spelled).lower())
    if small.isascii():
        kept = _NO_LETTERS.sub(" ", small)
    else:
        kept = "".join(each if f"a{each}".isidentifier() else " " for each in small)
    return "_".join(kept.replace("_", " ").split())[:limit].rstrip("_")


def python_name(text: str, *, reserved: Iterable[str] = (), spare: str = "node") -> PythonName:
    """Return the name nearest to a text; `spare` stands before what cannot begin one."""
    name = snake(text, WIDEST - len(spare) - 2) or spare
    # A field `with_x` would collide with the method of a field `x`.
    if not name.isidentifier() or name.startswith("with_"):
        name = f"{spare}_{name}"
    return PythonName(f"{name}_" if keyword.iskeyword(name) or name in reserved else name)


def class_stem(text: str) -> str:
    """Return the words of a text in CapWords, ready to take a suffix such as `Workflow`."""
    words = snake(text, WIDEST - len("Workflow") - 2).split("_")
    stem = "".join(word[:1].upper() + word[1:] for word in words)
    # A capital may decompose anew, and a mark at the beginning melt into the letter before it.
    is_good = stem.isidentifier() and not stem[:1].islower()  # some letters have no capital
    return unicodedata.normalize("NFKC", stem if is_good else f"The{stem}")


def kebab(text: str) -> str:
    """Return the words of a text as the name of a command."""
    return snake(text).replace("_", "-") or "workflow"


def distinct(ladders: Sequence[Sequence[str]], make: Callable[[str], str] = str) -> list[str]:
    """Return one name for each ladder of texts, all different.

    Everybody begins on the first rung. Where names collide, all who share one climb: a name never
    depends on who came first, so a new node renames only its namesakes.

    Args:
        ladders: Texts, the one to be preferred first.
        make: Makes a name of a text.
    """
    rungs = [0] * len(ladders)
    while True:
        names = [make(ladder[rung]) for ladder, rung in zip(ladders, rungs, strict=True)]
        shared = {name for name, times in Counter(names).items() if times > 1}
        climbers = [
            place
            for place, name in enumerate(names)
            if name in shared and rungs[place] + 1 < len(ladders[place])
        ]
        if not climbers:
            return _numbered(names, shared)
        for place in climbers:
            rungs[place] += 1


def _with_number(name: str, number: int) -> str:
    suffix = f"_{number}"
    return f"{name[: WIDEST - len(suffix)].rstrip('_')}{suffix}"


def _numbered(names: list[str], shared: set[str]) -> list[str]:
    taken = set(names)
    for place, name in enumerate(names):
        if name in shared:
            names[place] = next(
                new for n in count(1) if (new := _with_number(name, n)) not in taken
            )
            taken.add(names[place])
    return names
