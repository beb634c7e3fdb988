"""Support code of every command: errors, artifacts, child processes, the machine. Python 3.7, standard library only."""

PROJECT = "residual-attention-build"  # in names shared on a host: the lock folder, the User-Agent of downloads
VERSIONS = ("3.14", "3.13", "3.12", "3.11", "3.10")  # of Python that .venv may have: requirements.txt has pins for them
PYTHONS = f"Python {VERSIONS[-1]} to {VERSIONS[0]}"
