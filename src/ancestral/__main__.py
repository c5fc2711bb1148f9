"""`python -m ancestral`."""

from ancestral.cli import main

main()
