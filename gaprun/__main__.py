"""`python -m gaprun` is `gaprun`."""

from gaprun.cli.main import main

main()
