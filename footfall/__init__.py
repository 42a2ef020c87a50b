"""What an operator runs: the command line (`python -m footfall --help`, one module a command, registered in
__main__.py), and the supervisor and the embedded servers of `make run`.
"""
