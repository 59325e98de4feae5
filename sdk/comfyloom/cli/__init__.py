"""The command `comfyloom`: one command or group a file, each imported when it is called."""

from comfyloom.cli.main import main

__all__ = ["main"]
