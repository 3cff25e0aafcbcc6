"""The command line: ``gonogo``, or ``python -m gonogo``."""

from gonogo.cli.program import main

__all__ = ["main"]
