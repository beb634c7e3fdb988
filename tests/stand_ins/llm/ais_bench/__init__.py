"""A stand-in for another tool that has the import name ais_bench: the evaluation of language models."""
