"""The generator from end to end: read, model, render, compile, write."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from comfyloom.errors import ConfigError
from comfyloom_codegen.generate_module import ModuleBuild, ModuleGenerator
from comfyloom_codegen.modelling.build import module_name
from comfyloom_codegen.names import invalid_reason
from comfyloom_codegen.printing.generated_module import read_exactly, read_generated
from comfyloom_codegen.printing.header import (
    header_lines,
    is_current,
    is_generated,
    with_checksum,
)
from comfyloom_codegen.problems import Problem, ProblemLog
from comfyloom_codegen.reading.files import SCHEMA_FILE, check_folder, workflow_files
from comfyloom_codegen.reading.schemas import node_types_in, read_schemas
from comfyloom_codegen.report import Drift, Outcome, Report, State
from comfyloom_codegen.writing import apply_changes, compare, remove_stale, write_text

PACKAGE: Final = "comfyloom_workflows"

_PACKAGE_DOC: Final = "Typed classes of ComfyUI workflows."


def generate(
    workflows: str | os.PathLike[str],
    out: str | os.PathLike[str],
    package: str = PACKAGE,
    *,
    check: bool = False,
    force: bool = False,
) -> Report:
    """Generate a package of typed classes from a folder of workflow files.

    A file with an error is skipped, and the module generated from it earlier is kept; all other
    files are generated. Generated modules whose workflow file was deleted are removed. Where a
    workflow was exported again and its binding names a node that has moved, the selector in the
    binding is rewritten.

    Args:
        workflows: The folder of `<name>.json`, `<name>.toml` and `object_info.json`.
        out: The folder that holds the package.
        package: The name of the package.
        check: Write nothing; the report lists each file that differs by at least one byte.
        force: Also regenerate modules whose checksums show them to be current.

    Returns:
        The outcome of each file and all problems; an unchanged file is not modelled again.

    Raises:
        InputFileError: The folder of workflows does not exist or cannot be read.
        ConfigError: The name of the package is not usable.
        OutputNotWritable: A file cannot be written, or was not made by this generator.
    """
    folder = Path(workflows)
    check_folder(folder)
    if reason := _package_name_error(package):
        raise ConfigError(f"the package cannot be named {package!r}: it {reason}")
    job = _Generation(folder, Path(out) / package, is_full=check or force)
    files = job.files()
    drift = compare(job.target, files, job.kept_files()) if files else []
    if not check:
        # Bindings first: they are rewritten with the help of the previous package.
        job.write_bindings()
        apply_changes(job.target, files, drift)
    return Report(
        outcomes=tuple(job.outcomes(drift, check=check)),
        problems=tuple(job.problems),
        drift=tuple(drift),
        changes=tuple(change for build in job.builds for change in build.changes),
        followed=tuple(
            f"{build.path.stem}.toml: {rewrite}"
            for build in job.builds
            for rewrite in build.rewrites
            if build.path.name in job.usable
        ),
    )


def _package_name_error(name: str) -> str:
    is_taken = name in sys.stdlib_module_names or name in ("comfyloom", "comfyloom_codegen")
    return invalid_reason(name) or ("would hide the module of this name" if is_taken else "")


class _Generation:
    """One call of the generator: all workflow files of a folder, read and rendered."""

    def __init__(self, folder: Path, target: Path, *, is_full: bool) -> None:
        self.target = target
        self.problems: list[Problem] = []
        self._folder = folder
        self._label = folder.resolve().name
        self._is_full = is_full
        self._paths = workflow_files(folder)
        problems = ProblemLog(SCHEMA_FILE, self.problems)
        self._schemas = read_schemas(folder, problems)
        # With unreadable schemas all types would be guessed: generate nothing instead.
        self._is_blocked = problems.has_errors or self._has_no_workflow_files()
        self.builds: list[ModuleBuild] = [] if self._is_blocked else self._generate_all()
        self.usable = self._with_unique_names()
        self._node_types = {each for build in self.builds for each in build.node_types}
        self._without_workflow = {
            build.path for build in self.builds if not (build.summary or build.has_failed)
        }

    def _has_no_workflow_files(self) -> bool:
        """Report bindings without a workflow file; return whether there is no workflow file."""
        problems = ProblemLog(self._label, self.problems)
        stems = {path.stem for path in self._paths}
        for path in sorted(self._folder.glob("*.toml")):
            if path.stem not in stems:
                problems.warn("there is no workflow file with this name", file=path.name)
        if not self._paths:
            problems.error("there is no workflow file (*.json, *.png, *.glb) in this folder")
        return not self._paths

    def _generate_all(self) -> list[ModuleBuild]:
        generator = ModuleGenerator(
            label=self._label, target=self.target, schemas=self._schemas, is_full=self._is_full
        )
        builds = generator.generate_all(list(self._with_unique_modules()))
        self.problems += [problem for build in builds for problem in build.problems]
        return builds

    # --- names that must differ ------------------------------------------------------------------

    def _with_unique_modules(self) -> Iterator[Path]:
        # Some file systems do not distinguish case.
        names = {path.name: module_name(path.stem).casefold() for path in self._paths}
        shared = self._refuse_shared(names, "the module")
        return (path for path in self._paths if path.name not in shared)

    def _with_unique_names(self) -> dict[str, ModuleBuild]:
        summaries = {build.path.name: build.summary for build in self.builds if build.summary}
        classes = {file: each.workflow for file, each in summaries.items()}
        commands = {file: each.command for file, each in summaries.items()}
        shared = self._refuse_shared(classes, "the class")
        shared |= self._refuse_shared(commands, "the command")
        return {
            build.path.name: build
            for build in self.builds
            if build.path.name in summaries.keys() - shared
        }

    def _refuse_shared(self, names: Mapping[str, str], what: str) -> set[str]:
        files: defaultdict[str, list[str]] = defaultdict(list)
        for file, name in names.items():
            files[name].append(file)
        shared = {name: found for name, found in files.items() if len(found) > 1}
        for name, (first, *others) in shared.items():
            reason = f"{' and '.join(others)} would be {what} {name!r} too: rename one of them"
            self.problems.append(Problem(file=first, reason=reason))
        return {file for found in shared.values() for file in found}

    # --- the package -----------------------------------------------------------------------------

    def files(self) -> dict[str, str]:
        """Return the text of each file of the package that may have to be written, by file name.

        Modules that are current are not included.
        """
        if self._is_blocked:
            return {}
        files: dict[str, str] = {}
        classes: dict[str, tuple[str, ...]] = {}
        for path in self._paths:
            name, build = module_name(path.stem), self.usable.get(path.name)
            if build and build.generated:
                files |= {f"{name}.py": build.generated.text, f"{name}.json": build.generated.graph}
            if build and build.summary:
                classes[name] = build.summary.classes
            elif path not in self._without_workflow and (
                existing := read_generated(self.target, name)
            ):
                self._node_types |= node_types_in(existing.graph)
                summary = existing.summary()
                classes |= {name: summary.classes} if summary else {}
        was_generated = is_generated(read_exactly(self.target / "__init__.py") or "")
        has_package = classes or (was_generated and not self.kept_files())
        return self._package_files(classes) | files if has_package else files

    def _package_files(self, classes: dict[str, tuple[str, ...]]) -> dict[str, str]:
        """Return the files of the package that do not belong to one workflow."""
        return {
            "__init__.py": self._init_file(classes),
            "py.typed": "",
            SCHEMA_FILE: self._schemas.package_file(self._node_types),
        }

    def _init_file(self, classes: dict[str, tuple[str, ...]]) -> str:
        lines = header_lines(_PACKAGE_DOC, f"{self._label}/")
        sources = (self.target.name, repr(classes))
        existing = None if self._is_full else read_exactly(self.target / "__init__.py")
        if existing and is_current(existing, lines[2:], sources):
            return existing
        from comfyloom_codegen.printing.render import render_package

        text = render_package(self.target.name, classes, lines)
        compile(text, "__init__.py", "exec", dont_inherit=True)
        return with_checksum(text, sources)

    def kept_files(self) -> list[str]:
        """Return the files to leave as they are: of workflows that failed or have not changed."""
        generated = {build.path.name for build in self.usable.values() if build.generated}
        names = [
            module_name(path.stem)
            for path in self._paths
            if path.name not in generated and path not in self._without_workflow
        ]
        return [f"{name}{suffix}" for name in names for suffix in (".py", ".json")]

    def write_bindings(self) -> None:
        """Write the bindings that were rewritten for a new export.

        Raises:
            OutputNotWritable: A binding cannot be written.
        """
        remove_stale(self._folder)
        for build in self.builds:
            if build.binding is not None and build.path.name in self.usable:
                write_text(build.path.with_suffix(".toml"), build.binding)

    def outcomes(self, drift: Iterable[Drift], *, check: bool) -> Iterator[Outcome]:
        """Yield the outcome of each workflow file."""
        changed = {each.file for each in drift}
        for path in self._paths:
            build, name = self.usable.get(path.name), module_name(path.stem)
            if build is None or build.summary is None:
                is_skipped = path in self._without_workflow
                yield Outcome(file=path.name, state="skipped" if is_skipped else "failed")
                continue
            is_changed = not changed.isdisjoint({f"{name}.py", f"{name}.json"})
            state: State = ("differs" if check else "written") if is_changed else "unchanged"
            yield Outcome(
                file=path.name,
                workflow=build.summary.workflow,
                inputs=build.summary.inputs,
                results=build.summary.results,
                state=state,
            )
