"""`python -m privacy_finetuner.cli`: the command line, where it is not on the path."""

from privacy_finetuner.cli import main

main()
