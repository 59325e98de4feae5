"""Python names made from the titles of nodes and the names of inputs and files."""

from __future__ import annotations

import functools
import keyword
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Final

MAX_LENGTH: Final = 60
"""Maximum length of a name, so that a line with it still fits the line length."""

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Terms whose inner capitals do not start a new word.
_ONE_WORD: Final = re.compile(r"LoRA|UNet")
_NOT_ALPHANUMERIC: Final = re.compile(r"[^a-z0-9]+")
_TRAILING_SIGNS: Final = re.compile(r"[+-]+$")
_SPELLED: Final = {"+": " plus", "-": " minus"}

# What a generated class body refers to: a field of that name would hide it from the fields below.
_CLASS_BODY_NAMES: Final = frozenset(
    {"AnimationOutput", "AudioOutput", "FileOutput", "ImageOutput", "MeshOutput", "VideoOutput"}
    | {"Any", "FileSource", "ImageSource", "ImageSources", "Literal", "Self"}
    | {"bool", "chainable", "cls", "float", "inputs", "int", "outputs", "self", "str", "tuple"}
)
# Members of the base classes, and names that would be mistaken for members.
WORKFLOW_NAMES: Final = _CLASS_BODY_NAMES | {
    *("__workflow__", "template_graph", "to_graph"),
    *("build", "run", "value"),
}
RESULT_NAMES: Final = _CLASS_BODY_NAMES | {"place", "prompt_id", "seconds", "seed", "seeds", "ui"}


class PythonName(str):
    """A legal name of a field or a module.

    Raises:
        ValueError: The text is not an identifier, is a keyword, or begins with an underscore.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> PythonName:
        """Make a name of `text`, unchanged."""
        reason = invalid_reason(text)
        if reason:
            raise ValueError(f"{text!r} {reason}")
        return super().__new__(cls, text)


class ClassName(PythonName):
    """A legal name of a class; it does not begin with a lowercase letter.

    Raises:
        ValueError: The text is not such a name.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> ClassName:
        """Make a name of `text`, unchanged."""
        if text[:1].islower():
            raise ValueError(f"{text!r} begins with a lowercase letter")
        made = super().__new__(cls, text)
        assert isinstance(made, ClassName)
        return made


def invalid_reason(text: str, reserved: Iterable[str] = ()) -> str:
    """Return why `text` cannot be a name, "" if it can."""
    if not text.isidentifier() or unicodedata.normalize("NFKC", text) != text:
        return "is not a Python identifier"
    if keyword.iskeyword(text):
        return "is a Python keyword"
    if text.startswith("_"):
        return "begins with an underscore"
    if len(text) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    return "is taken by the base class" if text in reserved else ""


@functools.lru_cache(maxsize=4096)
def snake(text: str, limit: int = MAX_LENGTH) -> str:
    """Return `text` in snake case, at most `limit` characters; "" if no letter is left.

    Letters of any script stay. A trailing plus or minus is spelled out, because custom node packs
    name variants that way.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    spelled = _TRAILING_SIGNS.sub(lambda found: "".join(map(_SPELLED.__getitem__, found[0])), plain)
    spelled = _ONE_WORD.sub(lambda found: found[0].capitalize(), spelled)
    lower = unicodedata.normalize("NFKC", _CAMEL.sub(" ", spelled).lower())
    if lower.isascii():
        kept = _NOT_ALPHANUMERIC.sub(" ", lower)
    else:
        kept = "".join(each if f"a{each}".isidentifier() else " " for each in lower)
    return "_".join(kept.replace("_", " ").split())[:limit].rstrip("_")


def python_name(text: str, *, reserved: Iterable[str] = (), fallback: str = "node") -> PythonName:
    """Return the legal name closest to a string.

    Args:
        text: Any text.
        reserved: Names that get a trailing underscore, as keywords do.
        fallback: The name of a string without letters, and the prefix of one that cannot begin a
            name.
    """
    name = snake(text, MAX_LENGTH - len(fallback) - 2) or fallback
    # A field `with_x` would collide with the method of a field `x`.
    if not name.isidentifier() or name.startswith("with_"):
        name = f"{fallback}_{name}"
    return PythonName(f"{name}_" if keyword.iskeyword(name) or name in reserved else name)


def class_stem(text: str) -> str:
    """Return the words of a string in CapWords, ready to take a suffix such as `Workflow`."""
    words = snake(text, MAX_LENGTH - len("Workflow") - 2).split("_")
    stem = "".join(word[:1].upper() + word[1:] for word in words)
    # Some letters have no capital. A capital may decompose again under NFKC, and a leading
    # combining mark would join the letter before it.
    is_valid = stem.isidentifier() and not stem[:1].islower()
    return unicodedata.normalize("NFKC", stem if is_valid else f"The{stem}")


def kebab(text: str) -> str:
    """Return the words of a string as the name of a command."""
    return snake(text).replace("_", "-") or "workflow"


def distinct(candidates: Sequence[Sequence[str]], make: Callable[[str], str] = str) -> list[str]:
    """Return one name for each sequence of candidates, all different.

    All start with their first candidate. Where names collide, all that share one move on to their
    next candidate, so a name does not depend on the order, and a new node renames only the nodes
    that would share its name. Names that still collide are numbered.

    Args:
        candidates: Strings, the preferred one first.
        make: Makes a name of a string.
    """
    chosen = [0] * len(candidates)
    while True:
        names = [make(texts[rank]) for texts, rank in zip(candidates, chosen, strict=True)]
        shared = {name for name, times in Counter(names).items() if times > 1}
        colliding = [
            index
            for index, name in enumerate(names)
            if name in shared and chosen[index] + 1 < len(candidates[index])
        ]
        if not colliding:
            return _numbered(names, shared)
        for index in colliding:
            chosen[index] += 1


def _with_number(name: str, number: int) -> str:
    suffix = f"_{number}"
    return f"{name[: MAX_LENGTH - len(suffix)].rstrip('_')}{suffix}"


def _numbered(names: list[str], shared: set[str]) -> list[str]:
    taken = set(names)
    for index, name in enumerate(names):
        if name in shared:
            names[index] = next(
                new for n in count(1) if (new := _with_number(name, n)) not in taken
            )
            taken.add(names[index])
    return names
