"""`python -m comfyloom`."""

from comfyloom.cli import main

main()
