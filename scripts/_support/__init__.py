"""What every command needs: errors, artifacts, other programs, the machine. Python 3.7, standard library only."""

PROJECT = "residual-attention-build"  # what a host shares is named so: its locks, the User-Agent of downloads
