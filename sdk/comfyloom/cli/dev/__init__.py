"""`comfyloom dev`: a machine that stays up between runs while a developer works."""

from comfyloom.cli.dev.commands import dev

__all__ = ["dev"]
