"""The declaration of one setting: its names in each source, and how its value is parsed."""

from __future__ import annotations

import collections.abc
import functools
import json
import os
import re
import types
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, Union, cast, get_args, get_origin
from urllib.parse import urlsplit

import attrs

from comfyloom._core.suggestions import did_you_mean
from comfyloom.errors import ConfigError

if TYPE_CHECKING:
    from cattrs import Converter

LONGEST_DURATION_S: Final = 30 * 24 * 3600.0
"""The longest duration of a machine that is accepted."""
METADATA: Final = "comfyloom.setting"
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(h|min|m|s)?")
_UNIT_S: Final = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "": 1.0}

Plan: TypeAlias = Literal["payg", "pro"]
Prices: TypeAlias = Mapping[str, Decimal]
ServerTypes: TypeAlias = tuple[str, ...]
Auth: TypeAlias = str | tuple[str, str] | Callable[[Any], Any]
"""A login: `(user, password)`, `"user:password"`, a bearer token, `"Scheme credentials"`, or a
callable that gets each request (`requests.PreparedRequest`), adds a login and returns it, such as
the authentication classes of `requests`."""
Headers: TypeAlias = Mapping[str, str]
FileName: TypeAlias = str | os.PathLike[str]
Verify: TypeAlias = bool | FileName
ClientCert: TypeAlias = FileName | tuple[FileName, FileName]
HEADERS_FORM: Final = "one `Name: value` per line, or a JSON object"
Check: TypeAlias = Callable[[Any], str | None]


def _accept(_: object) -> None:
    return None


@attrs.frozen(kw_only=True)
class SettingMeta:
    """Where a setting is looked for, and how its value is checked.

    Attributes:
        variables: Environment variables; the first one that is set counts. A credentials file may
            use the same names.
        file_names: More names that a credentials file may use.
        is_secret: Whether it must not be shown, nor be in pyproject.toml.
        expected: The form of a secret, said when its value cannot be quoted.
        check: Returns what is wrong with a value, None if it is valid.
    """

    variables: tuple[str, ...]
    file_names: tuple[str, ...]
    is_secret: bool
    expected: str
    check: Check


def meta(
    *variables: str,
    file_names: tuple[str, ...] = (),
    is_secret: bool = False,
    expected: str = "text",
    check: Check = _accept,
) -> dict[str, SettingMeta]:
    """Return the metadata for the attrs field of a setting; see `SettingMeta`."""
    setting = SettingMeta(
        variables=variables,
        file_names=file_names,
        is_secret=is_secret,
        expected=expected,
        check=check,
    )
    return {METADATA: setting}


def check_all(settings: object) -> None:
    """Check the values of a settings object.

    Raises:
        ConfigError: Some are not valid; it lists them all.
    """
    found = {
        name: setting.check(value)
        for name, setting in setting_metas(settings.__class__).items()
        if (value := getattr(settings, name)) is not None
    }
    problems = [f"{name}: {problem}" for name, problem in found.items() if problem]
    if problems:
        raise ConfigError(problems=problems)


def setting_metas(cls: Any) -> dict[str, SettingMeta]:
    """Return the metadata of each setting of a class, those of its base class last."""
    fields = sorted(attrs.fields(cls), key=lambda field: field.inherited)
    return {field.name: field.metadata[METADATA] for field in fields if METADATA in field.metadata}


def parse_value(raw: object, kind: Any, check: Check) -> Any:
    """Return the value of a setting from a string or a TOML value.

    Args:
        raw: The string or TOML value.
        kind: The type of the setting.
        check: Returns what is wrong with the parsed value.

    Raises:
        ValueError: It is not valid; the message says what is expected.
    """
    value = _converter().structure(raw, kind)
    if (problem := check(value)) is not None:
        raise ValueError(problem)
    return value


def at_least(least: float, unit: str = "") -> Check:
    """Return a check that a number is not smaller than `least`."""

    def check(value: float) -> str | None:
        return None if value >= least else f"{value} is too small; the minimum is {least:g}{unit}"

    return check


def one_of(*choices: str) -> Check:
    """Return a check that a string is one of `choices`."""

    def check(value: str) -> str | None:
        if value in choices:
            return None
        return f"{value!r} is not one of {', '.join(choices)}{did_you_mean(value, choices)}"

    return check


def is_word(value: str) -> str | None:
    """Return what is wrong with a string for an HTTP header or URL path, None if it is valid."""
    is_text = isinstance(value, str)  # pyright: ignore[reportUnnecessaryIsInstance]
    if is_text and value.isascii() and value.isprintable() and " " not in value and value:
        return None
    return "it is empty, or contains whitespace or non-ASCII characters"


def is_url(value: str) -> str | None:
    """Return what is wrong with a string as the URL of a server, None if it is valid."""
    return is_word(value) or (None if is_http_url(value) else "it is not an http(s):// URL")


def is_http_url(text: str) -> bool:
    """Return whether a string is an `http(s)://` URL with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid IPv6 address or port
        return False


@functools.cache
def _converter() -> Converter:
    # Imported when first used: a program that creates `Settings` directly does not need it.
    from cattrs import Converter

    converter = Converter()
    converter.register_structure_hook(str, _to_text)
    converter.register_structure_hook(int, _to_int)
    converter.register_structure_hook(float, _to_float)
    converter.register_structure_hook(Path, _to_path)
    converter.register_structure_hook(Decimal, _to_price)
    converter.register_structure_hook_func(_comes_from(Literal), _to_text)
    converter.register_structure_hook_func(_comes_from(collections.abc.Mapping), _to_prices)
    converter.register_structure_hook_func(_comes_from(Union, types.UnionType), _to_optional)
    # The last one that fits is used.
    converter.register_structure_hook(bool, _to_flag)
    converter.register_structure_hook_func(lambda kind: kind == Headers, _to_headers)
    converter.register_structure_hook_func(lambda kind: kind == Verify, _to_verify)
    converter.register_structure_hook_func(_is_optional(ClientCert), _to_files)
    converter.register_structure_hook_func(lambda kind: kind == ServerTypes, to_server_types)
    converter.register_structure_hook_func(_is_optional(Auth), lambda raw, _: raw)
    return converter


def _is_optional(kind: Any) -> Callable[[Any], bool]:
    return lambda other: other in (kind, kind | None)


def _comes_from(*origins: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) in origins


def _to_optional(raw: object, kind: Any) -> object:
    return _converter().structure(raw, next(k for k in get_args(kind) if k is not type(None)))


def _to_text(raw: object, _: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"expected a string, got {raw!r}")  # noqa: TRY004
    return raw.strip()


def _to_path(raw: object, _: Any) -> Path:
    return expanded(raw if isinstance(raw, Path) else _to_text(raw, str))


def expanded(name: FileName) -> Path:
    """Return a path with its tilde replaced by a user's home.

    Raises:
        ValueError: That home is not known.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError(f"{os.fspath(name)}: the home folder is not known; set HOME") from None


def _to_int(raw: object, _: Any) -> int:
    try:
        if isinstance(raw, str | int) and not isinstance(raw, bool):
            return int(raw)
    except ValueError:
        pass
    raise ValueError(f"expected a whole number, got {raw!r}")


def _to_float(raw: object, _: Any) -> float:
    """Return seconds: every setting of type `float` is a duration."""
    if isinstance(raw, str):
        return to_seconds(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not abs(raw) < float("inf"):
        raise ValueError(f"expected a number of seconds, got {raw!r}")
    return float(raw)


def to_seconds(text: str) -> float:
    """Return the seconds that a string describes: `900`, `30m`, `1h30m`.

    Raises:
        ValueError: It does not describe a duration.
    """
    lower = text.strip().lower()
    parts = _DURATION_PART.findall(lower)
    if not parts or _DURATION_PART.sub("", lower).strip():
        raise ValueError(f"{text!r} is not a time; write 900, 30m or 1h30m")
    return float(sum(float(number) * _UNIT_S[unit] for number, unit in parts))


def _to_price(raw: object, _: Any) -> Decimal:
    try:
        price = Decimal(str(raw).strip())
    except InvalidOperation:
        price = Decimal(-1)
    if isinstance(raw, bool) or not price.is_finite() or price < 0:
        raise ValueError(f"expected a price in USD an hour, got {raw!r}")
    return price


def _to_prices(raw: object, _: Any) -> dict[str, Decimal]:
    """Return prices by server type, from a TOML table or from `medium=0.99,large=1.75`."""
    if isinstance(raw, str):
        pairs = [part.partition("=") for part in raw.split(",") if part.strip()]
        if not all(name.strip() and equals for name, equals, _ in pairs):
            raise ValueError("write prices as medium=0.99,large=1.75")
        raw = {name.strip(): price for name, _, price in pairs}
    if not isinstance(raw, Mapping):
        raise ValueError(f"expected prices by server type, got {raw!r}")  # noqa: TRY004
    table = cast("Mapping[str, object]", raw)
    return {name: _to_price(price, Decimal) for name, price in table.items()}


def to_server_types(raw: object, _: Any) -> ServerTypes:
    """Return machine types in order of preference, from a list or from `large,extra-large`.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(raw, str):
        raw = raw.split(",")
    if not isinstance(raw, list | tuple):
        raise ValueError(f"expected a machine type, or several in a list, got {raw!r}")  # noqa: TRY004
    return tuple(_to_text(part, str) for part in cast("Sequence[object]", raw))


def are_words(values: ServerTypes) -> str | None:
    """Return what is wrong with machine types, None if each is a word and none comes twice."""
    if not values or len(set(values)) < len(values):
        return "it is empty, or names a machine type twice"
    return next((problem for value in values if (problem := is_word(value))), None)


def _to_flag(raw: object, _: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    value = _FLAGS.get(str(raw).strip().lower())
    if value is None:
        raise ValueError(f"expected true or false, got {raw!r}")
    return value


_FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def _to_headers(raw: object, _: Any) -> dict[str, str]:
    """Return headers by name, from a table, a JSON object, or one `Name: value` per line."""
    if isinstance(raw, str) and raw.lstrip().startswith("{"):
        try:
            raw = json.loads(raw)
        except ValueError:
            raise ValueError(f"expected {HEADERS_FORM}") from None
    elif isinstance(raw, str):
        pairs = [line.partition(":") for line in raw.splitlines() if line.strip()]
        if not all(colon for _, colon, _ in pairs):
            raise ValueError(f"expected {HEADERS_FORM}")
        raw = {name.strip(): value.strip() for name, _, value in pairs}
    if not isinstance(raw, Mapping):
        raise ValueError("expected headers by name")  # noqa: TRY004
    return dict(cast("Mapping[str, str]", raw))


def _to_verify(raw: object, _: Any) -> bool | str:
    if isinstance(raw, bool):
        return raw
    value = _FLAGS.get(str(raw).strip().lower())
    return str(_to_path(raw, Path)) if value is None else value


def _to_files(raw: object, _: Any) -> str | tuple[str, str]:
    """Return the name of one file, or of a certificate and its key, separated by a comma."""
    parts = list(cast("list[object]", raw)) if isinstance(raw, list | tuple) else [raw]
    if len(parts) == 1 and isinstance(parts[0], str):
        parts = [part for part in parts[0].split(",") if part.strip()]
    names = [str(_to_path(part, Path)) for part in parts]
    if len(names) not in (1, 2):
        raise ValueError("expected one file, or a certificate and its key, separated by a comma")
    return names[0] if len(names) == 1 else (names[0], names[1])
