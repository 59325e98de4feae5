"""`comfyloom dev`: the machine that a developer starts in the morning and stops at night."""

from comfyloom.cli.dev.commands import dev

__all__ = ["dev"]
