"""Reproducible builds: two builds under different conditions, what differs between them, the lock of the sample."""
