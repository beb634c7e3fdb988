"""File formats: CIFAR-10 archives, bins, outputs, pickles of Python 2."""
