"""`python -m ancestral`."""

from ancestral.app.cli import main

main()
