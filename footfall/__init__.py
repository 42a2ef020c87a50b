"""The programs of an operator: the command line, and the supervisor and embedded servers of `make run`.

`python -m footfall --help` lists the commands. Each command is a module, and __main__.py registers it.
"""
