# One file per subcommand of main.py; bench/, gpu/ and launch/ are run on their own.
