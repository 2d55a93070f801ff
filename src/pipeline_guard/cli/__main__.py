"""`python -m pipeline_guard.cli`: the command line, where it is not installed as a program."""

from pipeline_guard.cli.entry import main

main()
