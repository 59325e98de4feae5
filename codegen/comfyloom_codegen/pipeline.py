"""The generator from end to end: read, model, print, compile, write."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from comfyloom.errors import ConfigError
from comfyloom_codegen.generate_module import Made, Printer
from comfyloom_codegen.modelling.build import module_name
from comfyloom_codegen.names import illegal
from comfyloom_codegen.printing.generated_module import read_exactly, read_printed
from comfyloom_codegen.printing.header import head, is_current, is_ours, sealed
from comfyloom_codegen.problems import Findings, Problem
from comfyloom_codegen.reading.files import SCHEMA_FILE, check_folder, workflow_files
from comfyloom_codegen.reading.schemas import classes_in, read_schemas
from comfyloom_codegen.report import Drift, Outcome, Report, State
from comfyloom_codegen.writing import compare, mend, sweep, write_text

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

    A file with an error is left out, and what was generated from it earlier stays as it is; all
    others are generated. Files that this generator made from workflows which are gone are removed.
    Where a workflow was exported again and its binding names a node that has moved, the binding
    gets the selector that it needs now.

    Args:
        workflows: The folder of `<name>.json`, `<name>.toml` and `object_info.json`.
        out: The folder that holds the package.
        package: The name of the package.
        check: Write nothing; the report tells what differs, file by file and byte by byte.
        force: Print again even what by its head is unchanged.

    Returns:
        What was done, and all problems; a file that has not changed is not judged again.

    Raises:
        InputFileError: There is no such folder of workflows, or it cannot be read.
        ConfigError: The package cannot be named so.
        OutputNotWritable: A file cannot be written, or is somebody's own.
    """
    folder = Path(workflows)
    check_folder(folder)
    if reason := _wrong_package(package):
        raise ConfigError(f"the package cannot be named {package!r}: it {reason}")
    job = _Job(folder, Path(out) / package, is_full=check or force)
    files = job.files()
    drift = compare(job.target, files, job.kept()) if files else []
    if not check:
        # First what cannot be made again: with the package goes the memory of the export before.
        job.write_bindings()
        mend(job.target, files, drift)
    return Report(
        outcomes=tuple(job.outcomes(drift, check=check)),
        problems=tuple(job.problems),
        drift=tuple(drift),
        changes=tuple(change for made in job.made for change in made.changes),
        followed=tuple(
            f"{made.path.stem}.toml: {each}"
            for made in job.made
            for each in made.followed
            if made.path.name in job.good
        ),
    )


def _wrong_package(name: str) -> str:
    is_taken = name in sys.stdlib_module_names or name in ("comfyloom", "comfyloom_codegen")
    return illegal(name) or ("would hide the module of this name" if is_taken else "")


class _Job:
    """One call of the generator: all workflow files of a folder, read and printed."""

    def __init__(self, folder: Path, target: Path, *, is_full: bool) -> None:
        self.target = target
        self.problems: list[Problem] = []
        self._folder = folder
        self._label = folder.resolve().name
        self._is_full = is_full
        self._paths = workflow_files(folder)
        findings = Findings(SCHEMA_FILE, self.problems)
        self._schemas = read_schemas(folder, findings)
        # With schemas that cannot be read all types would be guessed, and nobody wants that.
        self._is_groundless = findings.failed or self._has_no_ground()
        self.made: list[Made] = [] if self._is_groundless else self._print_all()
        self.good = self._without_namesakes()
        self._classes = {each for made in self.made for each in made.classes}
        self._workflowless = {m.path for m in self.made if not (m.summary or m.has_failed)}

    def _has_no_ground(self) -> bool:
        here = Findings(self._label, self.problems)
        stems = {path.stem for path in self._paths}
        for path in sorted(self._folder.glob("*.toml")):
            if path.stem not in stems:
                here.warn("there is no workflow file of this name", file=path.name)
        if not self._paths:
            here.error("there is no workflow file (*.json, *.png, *.glb) in this folder")
        return here.failed

    def _print_all(self) -> list[Made]:
        printer = Printer(
            label=self._label, target=self.target, schemas=self._schemas, is_full=self._is_full
        )
        made = printer.print_all(list(self._with_names_of_their_own()))
        self.problems += [problem for each in made for problem in each.problems]
        return made

    # --- names that must differ ------------------------------------------------------------------

    def _with_names_of_their_own(self) -> Iterator[Path]:
        # Some file systems take names for equal that differ in case only.
        names = {path.name: module_name(path.stem).casefold() for path in self._paths}
        shared = self._refuse_shared(names, "the module")
        return (path for path in self._paths if path.name not in shared)

    def _without_namesakes(self) -> dict[str, Made]:
        summaries = {made.path.name: made.summary for made in self.made if made.summary}
        classes = {file: each.workflow for file, each in summaries.items()}
        commands = {file: each.command for file, each in summaries.items()}
        shared = self._refuse_shared(classes, "the class")
        shared |= self._refuse_shared(commands, "the command")
        return {
            made.path.name: made
            for made in self.made
            if made.path.name in summaries.keys() - shared
        }

    def _refuse_shared(self, names: Mapping[str, str], what: str) -> set[str]:
        files: defaultdict[str, list[str]] = defaultdict(list)
        for file, name in names.items():
            files[name].append(file)
        shared = {name: found for name, found in files.items() if len(found) > 1}
        for name, (first, *others) in shared.items():
            reason = f"{' and '.join(others)} would be {what} {name!r} too: give one another name"
            self.problems.append(Problem(file=first, reason=reason))
        return {file for found in shared.values() for file in found}

    # --- the package -----------------------------------------------------------------------------

    def files(self) -> dict[str, str]:
        """Return the text of each file of the package that may have to be written, by its name.

        A module that is there as it would be printed is none of them.
        """
        if self._is_groundless:
            return {}
        files: dict[str, str] = {}
        homes: dict[str, tuple[str, ...]] = {}
        for path in self._paths:
            name, made = module_name(path.stem), self.good.get(path.name)
            if made and made.printed:
                files |= {f"{name}.py": made.printed.text, f"{name}.json": made.printed.graph}
            if made and made.summary:
                homes[name] = made.summary.classes
            elif there := None if self._is_none(path) else read_printed(self.target, name):
                self._classes |= classes_in(there.graph)
                summary = there.summary()
                homes |= {name: summary.classes} if summary else {}
        was_there = is_ours(read_exactly(self.target / "__init__.py") or "")
        return self._beside(homes) | files if homes or (was_there and not self.kept()) else files

    def _is_none(self, path: Path) -> bool:
        """Return whether a file turned out to hold no workflow, which is no failure."""
        return path in self._workflowless

    def _beside(self, homes: dict[str, tuple[str, ...]]) -> dict[str, str]:
        """Return what a package has beside its workflows."""
        return {
            "__init__.py": self._package(homes),
            "py.typed": "",
            SCHEMA_FILE: self._schemas.package_file(self._classes),
        }

    def _package(self, homes: dict[str, tuple[str, ...]]) -> str:
        lines = head(_PACKAGE_DOC, f"{self._label}/")
        made_from = (self.target.name, repr(homes))
        there = None if self._is_full else read_exactly(self.target / "__init__.py")
        if there and is_current(there, lines[2:], made_from):
            return there
        from comfyloom_codegen.printing.render import render_package

        text = render_package(self.target.name, homes, lines)
        compile(text, "__init__.py", "exec", dont_inherit=True)
        return sealed(text, made_from)

    def kept(self) -> list[str]:
        """Return the files that stay as they are: of workflows that failed, or have not changed."""
        printed = {made.path.name for made in self.good.values() if made.printed}
        paths = [p for p in self._paths if p.name not in printed and not self._is_none(p)]
        names = [module_name(path.stem) for path in paths]
        return [f"{name}{suffix}" for name in names for suffix in (".py", ".json")]

    def write_bindings(self) -> None:
        """Write the bindings that follow a new export.

        Raises:
            OutputNotWritable: One cannot be written.
        """
        sweep(self._folder)
        for made in self.made:
            if made.binding is not None and made.path.name in self.good:
                write_text(made.path.with_suffix(".toml"), made.binding)

    def outcomes(self, drift: Iterable[Drift], *, check: bool) -> Iterator[Outcome]:
        """Return what became of each workflow file."""
        changed = {each.file for each in drift}
        for path in self._paths:
            made, name = self.good.get(path.name), module_name(path.stem)
            if made is None or made.summary is None:
                yield Outcome(file=path.name, state="skipped" if self._is_none(path) else "failed")
                continue
            is_changed = not changed.isdisjoint({f"{name}.py", f"{name}.json"})
            state: State = ("differs" if check else "written") if is_changed else "unchanged"
            yield Outcome(
                file=path.name,
                workflow=made.summary.workflow,
                inputs=made.summary.inputs,
                results=made.summary.results,
                state=state,
            )
