"""Its command line has nothing of the inference tool's."""

import argparse

parser = argparse.ArgumentParser(prog="ais_bench", description="AISBench benchmark for language models (a stand-in)")
parser.add_argument("--models", nargs="*")
parser.add_argument("--datasets", nargs="*")
parser.parse_args()
