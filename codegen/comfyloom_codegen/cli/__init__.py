"""The command `comfyloom codegen` and what is below it, one file a command."""

from __future__ import annotations

from comfyloom_codegen.cli.main import codegen

__all__ = ["codegen"]
