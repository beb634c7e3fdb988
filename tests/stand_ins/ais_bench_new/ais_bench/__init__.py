"""A stand-in for the package ais_bench: see ais_bench_shared."""
