"""The JSON schema of bindings agrees with the parser."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import attrs
import jsonschema

from codegen.command import run
from codegen.workspace import MakeWorkspace
from comfyloom._workflow.input_spec import Kind
from comfyloom._workflow.outputs import OutputKind
from comfyloom_codegen.bindings import entries
from comfyloom_codegen.reading.files import require_source
from comfyloom_codegen.reading.schemas import PinnedSchemas
from comfyloom_codegen.scaffold.binding import initial_binding
from support import ROOT
from ugly import UGLY


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("binding-schema").output)
    return found


def test_the_schema_has_the_keys_and_kinds_of_the_parser() -> None:
    found = schema()
    definitions = found["definitions"]
    for entry, properties in (
        (entries.Binding, found["properties"]),
        (entries.InputEntry, definitions["input"]["properties"]),
        (entries.ResultEntry, definitions["result"]["properties"]),
        (entries.StageEntry, definitions["stage"]["properties"]),
        (entries.TargetEntry, definitions["target"]["anyOf"][1]["properties"]),
        (entries.PartEntry, definitions["part"]["anyOf"][1]["properties"]),
        (entries.Selector, definitions["selector"]["anyOf"][1]["properties"]),
    ):
        names = {field.name.rstrip("_") for field in attrs.fields(entry)} - {"text"}
        assert names == set(properties), entry
    from typing import get_args

    def literals(kind: Any) -> set[str]:
        found: set[str] = set()
        for each in get_args(kind):
            found |= {each} if isinstance(each, str) else literals(each)
        return found

    assert set(definitions["input"]["properties"]["kind"]["enum"]) == literals(Kind)
    assert set(definitions["result"]["properties"]["kind"]["enum"]) == literals(OutputKind)


def test_the_bindings_of_the_project_fit_the_schema(make_workspace: MakeWorkspace) -> None:

    validator = jsonschema.Draft7Validator(schema())
    jsonschema.Draft7Validator.check_schema(schema())
    texts = [path.read_text("utf-8") for path in (ROOT / "workflows").glob("*.toml")]
    texts += [
        initial_binding(
            require_source(make_workspace({f"{name}.json": UGLY[name]}).workflows / f"{name}.json"),
            PinnedSchemas({}),
        )
        for name in UGLY
    ]
    assert len(texts) > 10
    for text in texts:
        assert not list(validator.iter_errors(tomllib.loads(text)))
    for wrong in ({"clas": "x"}, {"inputs": {"x": {"kind": "text"}}}, {"stages": [{"share": 0}]}):
        assert list(validator.iter_errors(wrong))
