"""One workflow file, read, modelled and printed; many of them on all processors."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from comfyloom_codegen.modelling.build import build, module_name
from comfyloom_codegen.printing.generated_module import Printed, Summary, read_printed
from comfyloom_codegen.printing.header import head, is_current, sealed
from comfyloom_codegen.problems import Findings, Problem
from comfyloom_codegen.reading.files import Source, read_source
from comfyloom_codegen.reading.schemas import Pinned
from comfyloom_codegen.writing import graph_text

if TYPE_CHECKING:
    from comfyloom_codegen.exports.changes import Change
    from comfyloom_codegen.exports.export import Export
    from comfyloom_codegen.exports.rebinding import Followed
    from comfyloom_codegen.modelling.model import Module

_MANY: Final = 60
"""From so many files on, further processes are worth their start."""
_CHUNK: Final = 25


@attrs.frozen(kw_only=True)
class Made:
    """What became of one workflow file.

    Attributes:
        path: The file.
        summary: What its module tells of itself; None if it failed, or holds no workflow.
        printed: Its module, if that is another than the one that is there.
        problems: What is wrong with it.
        classes: The classes of its nodes.
        changes: What a new export of it changes for callers.
        followed: The selectors of its binding that were written anew.
        binding: The text of its binding with them, None where it stays as it is.
    """

    path: Path
    summary: Summary | None = None
    printed: Printed | None = None
    problems: tuple[Problem, ...] = ()
    classes: frozenset[str] = frozenset()
    changes: tuple[Change, ...] = ()
    followed: tuple[Followed, ...] = ()
    binding: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether an error kept it from being generated."""
        return any(problem.severity == "error" for problem in self.problems)


@attrs.frozen(kw_only=True)
class Printer:
    """Turns workflow files into modules.

    Attributes:
        label: The name of the folder of workflow files.
        target: The folder of the package, with what was generated earlier.
        schemas: The pinned schemas.
        is_full: Whether to print even what by its head is unchanged.
    """

    label: str
    target: Path
    schemas: Pinned
    is_full: bool

    def print_all(self, paths: Sequence[Path]) -> list[Made]:
        """Return what became of each file, in order."""
        return list(_map(self, paths))

    def print(self, path: Path) -> Made:
        """Return what becomes of one file."""
        try:
            return self._print_unless_current(path)
        except RecursionError:
            reason = "its values are nested too deeply for Python"
            return Made(path=path, problems=(Problem(file=path.name, reason=reason),))

    def _print_unless_current(self, path: Path) -> Made:
        findings = Findings(path.name)
        source = read_source(path, findings)
        if source is None:
            return Made(path=path, problems=tuple(findings.problems))
        source = attrs.evolve(source, problems=tuple(findings.problems))
        there = None if self.is_full else self._there(source)
        summary = there.summary() if there and self._is_current(source, there) else None
        if summary is None:
            return self._print(source)
        return Made(path=path, summary=summary, problems=source.problems, classes=source.classes)

    def _is_current(self, source: Source, there: Printed) -> bool:
        head_lines = self._head("", source)[2:]
        return is_current(there.text, head_lines, self._made_from(source, there.graph))

    def _print(self, source: Source) -> Made:
        graph = graph_text(source.graph)
        export = self._export(source, graph)
        rebound = export.rebound(source) if export else None
        if rebound:
            source = attrs.evolve(source, binding=rebound.text)
        findings = Findings(source.file, list(source.problems))
        for entry, reason in rebound.lost if rebound else ():
            findings.error(reason, field=entry, file=f"{source.stem}.toml")
        module = None if findings.failed else build(source, self.schemas, findings)
        printed = self._printed(module, source, graph, findings) if module else None
        return Made(
            path=source.path,
            summary=printed.summary() if printed else None,
            printed=printed,
            problems=tuple(findings.problems),
            classes=source.classes,
            changes=export.changes(module) if export and module else (),
            followed=rebound.followed if rebound else (),
            binding=rebound.text if rebound and rebound.followed else None,
        )

    def _export(self, source: Source, graph: str) -> Export | None:
        """Return the export before this one, None if it is the same or there was none."""
        there = self._there(source)
        if there is None or there.graph == graph:
            return None
        from comfyloom_codegen.exports.export import Export

        return Export.of(there, source.graph)

    def _printed(
        self, module: Module, source: Source, graph: str, findings: Findings
    ) -> Printed | None:
        from comfyloom_codegen.printing.render import render_module

        text = render_module(module, self._head(module.doc, source))
        try:
            compile(text, f"{module.name}.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError) as error:
            findings.error(f"a defect of the generator: what it printed is no Python ({error})")
            return None
        return Printed(sealed(text, self._made_from(source, graph)), graph)

    def _there(self, source: Source) -> Printed | None:
        return read_printed(self.target, module_name(source.stem))

    def _head(self, doc: str, source: Source) -> tuple[str, ...]:
        return head(doc, f"{self.label}/{source.file}", source.text)

    def _made_from(self, source: Source, graph: str) -> tuple[str, ...]:
        binding = "" if source.binding is None else f"binding:{source.binding}"
        return source.text, binding, self.schemas.text(source.classes), graph


# --- many files ----------------------------------------------------------------------------------

_shared: tuple[Printer, Sequence[Path]] | None = None


def _map(printer: Printer, paths: Sequence[Path]) -> Iterator[Made]:
    """Yield what becomes of each file, in order."""
    workers = min(_processors(), len(paths) // _CHUNK)
    if workers < 2 or len(paths) < _MANY or not _may_fork():
        yield from map(printer.print, paths)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    global _shared
    _shared = printer, paths
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            yield from pool.map(_print_shared, range(len(paths)), chunksize=_CHUNK)
    finally:
        _shared = None


def _print_shared(number: int) -> Made:
    assert _shared is not None
    printer, paths = _shared
    return printer.print(paths[number])


def _processors() -> int:
    # Python 3.13 has `os.process_cpu_count`.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _may_fork() -> bool:
    """Return whether forking is safe: on Linux, as long as nobody else has a lock in hand."""
    return sys.platform == "linux" and threading.active_count() == 1
