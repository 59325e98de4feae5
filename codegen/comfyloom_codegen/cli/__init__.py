"""The command `comfyloom codegen` and its subcommands, one file for each."""

from __future__ import annotations

from comfyloom_codegen.cli.main import codegen

__all__ = ["codegen"]
