"""Its command line has none of the flags of the inference tool."""

import argparse

parser = argparse.ArgumentParser(prog="ais_bench", description="AISBench benchmark for language models (a stand-in)")
parser.add_argument("--models", nargs="*")
parser.add_argument("--datasets", nargs="*")
parser.parse_args()
