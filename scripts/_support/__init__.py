"""Support code of every command: errors, artifacts, child processes, the machine. Python 3.7, standard library only."""

PROJECT = "residual-attention-build"  # in names shared on a host: the lock folder, the User-Agent of downloads
