"""The root of all errors, and errors of settings and of result files."""

from __future__ import annotations

from collections.abc import Sequence

from comfyloom._core.redact import redact


class ComfyloomError(Exception):
    """Something went wrong in comfyloom."""

    def __init__(self, message: str = "") -> None:
        text = message or (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(redact(text))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class ConfigError(ComfyloomError):
    """A setting is missing or wrong.

    Attributes:
        problems: One line for each setting, with the place where it was looked for.
    """

    def __init__(self, message: str = "", *, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(redact(problem) for problem in problems)
        super().__init__(message or "; ".join(self.problems))


class OutputNotWritable(ComfyloomError):
    """A result cannot be written to the requested place.

    Attributes:
        path: The file or folder.
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        self.path = path
        super().__init__(message)
