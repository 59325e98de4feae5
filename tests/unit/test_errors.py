"""Every error can be created, printed, copied and pickled, and has an exit code."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from comfyloom import errors
from comfyloom._core import redact
from comfyloom.errors import (
    EXIT_CODES,
    ApiError,
    ComfyloomError,
    ConfigError,
    InputFileError,
    InputProblem,
    InputValueError,
    MachineLeak,
    PromptRejected,
    RunFailed,
    RunTimeout,
    TransportError,
    Unauthorized,
    exit_code,
)
from support import ROOT

ALL = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, ComfyloomError)
]


@pytest.mark.parametrize("kind", ALL)
def test_each_error_has_a_default_message_and_is_picklable(kind: type[ComfyloomError]) -> None:
    error = kind()
    assert str(error) or kind in (ConfigError, InputValueError, InputFileError)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(copy.copy(error)) == vars(error)
    assert kind.__doc__
    assert kind.__module__ == "comfyloom.errors"  # where users import it from


@pytest.mark.parametrize("kind", ALL)
def test_each_error_has_an_exit_code_of_its_own_or_its_parents(kind: type[ComfyloomError]) -> None:
    code = exit_code(kind())
    assert code in {1, 65, 66, 69, 73, 74, 75, 77, 78}


@pytest.mark.parametrize("kind", ALL)
def test_each_error_is_documented_with_its_code_and_fields(kind: type[ComfyloomError]) -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{kind.__name__}` |")]
    _, _, meaning, code, _ = (cell.strip() for cell in row.split("|", 4))
    assert meaning
    assert code == str(exit_code(kind()))
    own = set(inspect.signature(kind.__init__).parameters) - {"self", "message"}
    inherited = set(inspect.signature(kind.__mro__[1].__init__).parameters)
    for name in own - inherited:
        assert f"`{name}`" in row, name


def test_the_tree_in_the_docs_of_the_module_is_complete() -> None:
    tree: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines()[2:]:
        if (match := re.match(r"^( {4,})([A-Z]\w+)(?:  +\S|$)", line)) is None:
            continue
        indent, name = len(match[1]), match[2]
        parents = [each for each in parents if each[0] < indent]
        tree[name] = parents[-1][1] if parents else ""
        parents.append((indent, name))
    known = {kind.__name__: kind.__mro__[1].__name__ for kind in ALL}
    assert tree == known | {"ComfyloomError": ""}


def test_fields_survive_pickling() -> None:
    failed = RunFailed("x", prompt_id="p", node="3", node_type="K", traceback=["a"])
    again = pickle.loads(pickle.dumps(failed))
    assert (again.prompt_id, again.node, again.node_type, again.traceback) == (
        "p",
        "3",
        "K",
        ("a",),
    )
    rejected = PromptRejected("x", node_errors={"3": {}}, status=400)
    assert pickle.loads(pickle.dumps(rejected)).node_errors == {"3": {}}


def test_exit_codes_say_who_must_act() -> None:
    assert exit_code(Unauthorized()) == 77
    assert exit_code(ConfigError("x")) == 78
    assert exit_code(RunTimeout()) == 75
    assert exit_code(MachineLeak()) == 69
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(ValueError()) == 1
    assert all(issubclass(kind, BaseException) for kind in EXIT_CODES)


def test_a_timeout_is_also_a_timeout_error() -> None:
    assert isinstance(RunTimeout(), TimeoutError)


def test_all_problems_with_inputs_are_in_one_message() -> None:
    problems = [
        InputProblem(field="a", node="1", reason="a value is required"),
        InputProblem(field="b", node="2", reason="'eulr' is not one of 'euler'", nearest="euler"),
    ]
    error = InputValueError(problems=problems)
    assert (error.field, error.node, error.reason) == ("a", "1", "a value is required")
    assert "did you mean 'euler'?" in str(error)
    assert pickle.loads(pickle.dumps(error)).problems == tuple(problems)


def test_secrets_are_removed_when_an_error_is_created() -> None:
    redact.register_secret("tok-123456")
    error = TransportError("with tok-123456", errors=["tok-123456"])
    assert "tok-123456" not in str(error) + repr(error) + str(error.errors) + repr(vars(error))
    assert "tok-123456" not in repr(vars(ApiError(body="tok-123456", request="tok-123456")))
