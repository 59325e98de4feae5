"""Generate the module of one workflow file, or of many files on all processors."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from comfyloom_codegen.modelling.build import build, module_name
from comfyloom_codegen.printing.generated_module import (
    GeneratedModule,
    ModuleSummary,
    read_generated,
)
from comfyloom_codegen.printing.header import header_lines, is_current, with_checksum
from comfyloom_codegen.problems import Problem, ProblemLog
from comfyloom_codegen.reading.files import WorkflowSource, read_source
from comfyloom_codegen.reading.schemas import PinnedSchemas
from comfyloom_codegen.writing import graph_text

if TYPE_CHECKING:
    from comfyloom_codegen.exports.changes import Change
    from comfyloom_codegen.exports.export import PreviousExport
    from comfyloom_codegen.exports.rebinding import SelectorRewrite
    from comfyloom_codegen.modelling.model import Module

_MIN_FILES_TO_FORK: Final = 60
"""With fewer files, starting further processes costs more than it saves."""
_FILES_PER_WORKER: Final = 25


@attrs.frozen(kw_only=True)
class ModuleBuild:
    """The outcome of one workflow file.

    Attributes:
        path: The workflow file.
        summary: The public names of its module; None if it failed, or holds no workflow.
        generated: Its module; None if the existing one is current.
        problems: The problems of the file.
        node_types: The types of its nodes.
        changes: What a new export changes for callers.
        rewrites: The selectors of its binding that were rewritten.
        binding: The rewritten text of its binding; None if the binding is unchanged.
    """

    path: Path
    summary: ModuleSummary | None = None
    generated: GeneratedModule | None = None
    problems: tuple[Problem, ...] = ()
    node_types: frozenset[str] = frozenset()
    changes: tuple[Change, ...] = ()
    rewrites: tuple[SelectorRewrite, ...] = ()
    binding: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether an error prevented its generation."""
        return any(problem.severity == "error" for problem in self.problems)


@attrs.frozen(kw_only=True)
class ModuleGenerator:
    """Turns workflow files into modules.

    Attributes:
        label: The name of the folder of workflow files.
        target: The folder of the package, with the modules generated earlier.
        schemas: The pinned schemas.
        is_full: Whether to regenerate modules whose checksums show them to be current.
    """

    label: str
    target: Path
    schemas: PinnedSchemas
    is_full: bool

    def generate_all(self, paths: Sequence[Path]) -> list[ModuleBuild]:
        """Return the outcome of each file, in order."""
        return list(_generate_in_order(self, paths))

    def generate(self, path: Path) -> ModuleBuild:
        """Return the outcome of one file."""
        try:
            return self._generate_unless_current(path)
        except RecursionError:
            reason = "its values are nested too deeply for Python"
            return ModuleBuild(path=path, problems=(Problem(file=path.name, reason=reason),))

    def _generate_unless_current(self, path: Path) -> ModuleBuild:
        problems = ProblemLog(path.name)
        source = read_source(path, problems)
        if source is None:
            return ModuleBuild(path=path, problems=tuple(problems.entries))
        source = attrs.evolve(source, problems=tuple(problems.entries))
        existing = None if self.is_full else self._existing(source)
        is_unchanged = existing and self._is_current(source, existing)
        summary = existing.summary() if existing and is_unchanged else None
        if summary is None:
            return self._generate(source)
        return ModuleBuild(
            path=path, summary=summary, problems=source.problems, node_types=source.node_types
        )

    def _is_current(self, source: WorkflowSource, existing: GeneratedModule) -> bool:
        lines = self._header("", source)[2:]
        return is_current(existing.text, lines, self._checksum_sources(source, existing.graph))

    def _generate(self, source: WorkflowSource) -> ModuleBuild:
        graph = graph_text(source.graph)
        export = self._previous_export(source, graph)
        rewritten = export.rewrite_binding(source) if export else None
        if rewritten:
            source = attrs.evolve(source, binding=rewritten.text)
        problems = ProblemLog(source.file, list(source.problems))
        for entry, reason in rewritten.lost if rewritten else ():
            problems.error(reason, field=entry, file=f"{source.stem}.toml")
        module = None if problems.has_errors else build(source, self.schemas, problems)
        generated = self._render(module, source, graph, problems) if module else None
        return ModuleBuild(
            path=source.path,
            summary=generated.summary() if generated else None,
            generated=generated,
            problems=tuple(problems.entries),
            node_types=source.node_types,
            changes=export.changes(module) if export and module else (),
            rewrites=rewritten.rewrites if rewritten else (),
            binding=rewritten.text if rewritten and rewritten.rewrites else None,
        )

    def _previous_export(self, source: WorkflowSource, graph: str) -> PreviousExport | None:
        """Return the export before this one; None if it is the same or there was none."""
        existing = self._existing(source)
        if existing is None or existing.graph == graph:
            return None
        from comfyloom_codegen.exports.export import PreviousExport

        return PreviousExport.of(existing, source.graph)

    def _render(
        self, module: Module, source: WorkflowSource, graph: str, problems: ProblemLog
    ) -> GeneratedModule | None:
        from comfyloom_codegen.printing.render import render_module

        text = render_module(module, self._header(module.doc, source))
        try:
            compile(text, f"{module.name}.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError) as error:
            reason = f"a bug in the generator: its output is not valid Python ({error})"
            problems.error(f"{reason}; please report it")
            return None
        return GeneratedModule(with_checksum(text, self._checksum_sources(source, graph)), graph)

    def _existing(self, source: WorkflowSource) -> GeneratedModule | None:
        return read_generated(self.target, module_name(source.stem))

    def _header(self, doc: str, source: WorkflowSource) -> tuple[str, ...]:
        return header_lines(doc, f"{self.label}/{source.file}", source.text)

    def _checksum_sources(self, source: WorkflowSource, graph: str) -> tuple[str, ...]:
        binding = "" if source.binding is None else f"binding:{source.binding}"
        return source.text, binding, self.schemas.text(source.node_types), graph


# --- many files ----------------------------------------------------------------------------------

# Forked processes inherit it; nothing has to be pickled.
_shared: tuple[ModuleGenerator, Sequence[Path]] | None = None


def _generate_in_order(generator: ModuleGenerator, paths: Sequence[Path]) -> Iterator[ModuleBuild]:
    """Yield the outcome of each file, in order."""
    workers = min(_processors(), len(paths) // _FILES_PER_WORKER)
    if workers < 2 or len(paths) < _MIN_FILES_TO_FORK or not _may_fork():
        yield from map(generator.generate, paths)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    global _shared
    _shared = generator, paths
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            yield from pool.map(_generate_shared, range(len(paths)), chunksize=_FILES_PER_WORKER)
    finally:
        _shared = None


def _generate_shared(index: int) -> ModuleBuild:
    assert _shared is not None
    generator, paths = _shared
    return generator.generate(paths[index])


def _processors() -> int:
    # Python 3.13 has `os.process_cpu_count`.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _may_fork() -> bool:
    """Return whether forking is safe: on Linux, and no other thread may hold a lock."""
    return sys.platform == "linux" and threading.active_count() == 1
