"""The command line: `python -m footfall --help`. One module a command, registered in __main__.py."""
