"""Benchmarks: every image x network x method x metric, and tables of the results."""
