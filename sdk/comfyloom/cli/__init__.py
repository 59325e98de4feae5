"""The command `comfyloom`: one module per command or group, each imported when it is called."""

from comfyloom.cli.main import main

__all__ = ["main"]
