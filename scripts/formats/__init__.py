"""File formats: CIFAR-10 archives and batches, bins, outputs, pickles."""
