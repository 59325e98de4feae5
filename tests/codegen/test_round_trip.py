"""Without a binding, a class with its default values reproduces the graph of its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen.workspace import GeneratePackage, only_class

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "workflows"
FILES = [ROOT / "workflows" / "generate_flux_mesh.json", *sorted(GOLDEN.glob("[!o]*.json"))]
SCHEMAS = [None, ROOT / "workflows" / "object_info.json", GOLDEN / "object_info.json"]


@pytest.mark.parametrize("schemas", SCHEMAS, ids=["no schemas", "flux mesh", "golden"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_reproduced(
    generate_package: GeneratePackage, path: Path, schemas: Path | None
) -> None:
    files = {path.name: path.read_text("utf-8")}
    if schemas:
        files["object_info.json"] = schemas.read_text("utf-8")
    report, package = generate_package(files)
    assert not report.errors
    workflow = only_class(package)
    assert json.dumps(workflow().to_graph()) == json.dumps(json.loads(files[path.name]))
    assert workflow().to_graph() is not workflow().to_graph()


def test_a_large_cycle_is_reproduced(generate_package: GeneratePackage) -> None:
    graph = {
        str(n): {"inputs": {"x": n, "from": [str(n - 1), 0]}, "class_type": "Step"}
        for n in range(1, 1000)
    }
    graph["0"] = {"inputs": {"x": 0, "from": ["999", 0]}, "class_type": "Step"}
    report, package = generate_package({"ring.json": graph})
    assert not report.errors
    assert package.RingWorkflow().to_graph() == graph
    assert "no node gives a result" in str(report.problems[0])
