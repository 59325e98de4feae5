"""Check a generated package: import it in a clean interpreter and type-check it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from comfyloom.errors import ConfigError, WorkflowError

# Names are passed as arguments; the code is never formatted.
_SMOKE_TEST: Final = """
import importlib, json, pathlib, sys
from comfyloom import Workflow
folder, name = sys.argv[1:]
sys.path.insert(0, folder)
package = importlib.import_module(name)
wrong = []
for each in package.__all__:
    cls = getattr(package, each)
    if issubclass(cls, Workflow):
        values = {}
        for spec in cls.__workflow__.inputs:
            if spec.required:
                usual = {"integer": int(spec.ge or 0), "number": spec.ge or 0, "flag": False}
                choice = spec.choices[0] if spec.choices else "x"
                values[spec.name] = usual.get(spec.kind, choice)
        try:
            cls(**values).to_graph()
        except Exception as error:
            wrong.append(f"{each}: {type(error).__name__}: {error}")
print("\\n".join(wrong))
sys.exit(bool(wrong))
"""
_CHECKERS: Final = ("mypy", "pyright")
_TIMEOUT_S: Final = 900


def verify(out: Path, package: str) -> list[str]:
    """Import a generated package, build each of its workflows and type-check it.

    Args:
        out: The folder that holds the package.
        package: Its name.

    Returns:
        The checks done, one line each.

    Raises:
        WorkflowError: A check failed; the message has its output.
        ConfigError: Neither mypy nor pyright is installed.
    """
    checkers = [name for name in _CHECKERS if importlib.util.find_spec(name)]
    if not checkers:
        raise ConfigError("--verify needs a type checker: pip install mypy (or pyright)")
    _check([sys.executable, "-I", "-c", _SMOKE_TEST, str(out.absolute()), package], out, "import")
    done = ["imported, and every workflow built"]
    for name in checkers:
        with tempfile.TemporaryDirectory() as folder:
            options = _strict_arguments(name, (out / package).absolute(), Path(folder))
            _check([sys.executable, "-m", name, *options], out, name)
        done.append(f"type-checked with {name} (strict)")
    return done


def _strict_arguments(checker: str, package: Path, folder: Path) -> list[str]:
    """Return the arguments for a strict check; pyright gets a configuration file in `folder`."""
    if checker == "mypy":
        return ["--strict", "--no-error-summary", "--hide-error-context", str(package)]
    config = folder / "pyrightconfig.json"
    # pyright silently skips paths that are not relative to its configuration file.
    relative = os.path.relpath(package, folder.resolve())
    rules = {"typeCheckingMode": "strict", "include": [relative]}
    config.write_text(json.dumps({**rules, "extraPaths": [str(package.parent)]}), "utf-8")
    return ["--project", str(config), "--pythonpath", sys.executable]


def _check(command: list[str], folder: Path, what: str) -> None:
    env = {**os.environ, "MYPY_CACHE_DIR": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=env,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise WorkflowError(f"{what}: not finished after {_TIMEOUT_S} s") from None
    if done.returncode:
        output = (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"
        raise WorkflowError(f"the generated package failed a check ({what}):\n{output}")
