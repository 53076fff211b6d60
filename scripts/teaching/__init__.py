"""The jobs of `main.py teach`: one file each, with `HELP`, `add_arguments(parser)` and `run(options)`."""
