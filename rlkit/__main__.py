"""`python -m rlkit`."""

from rlkit.cli.main import main

main()
