"""The tools that could be used instead of this project, run beside it: `python -m tests.benchmark.peers`.

None of their code is imported here: every `with_….py` is a program for an environment of its own.
"""
