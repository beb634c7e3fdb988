"""A stand-in for ais-bench-benchmark, which evaluates language models and has the same import name."""
