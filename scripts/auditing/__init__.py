"""Proof that a result is what its records say: see chain.py. Python 3.7."""
