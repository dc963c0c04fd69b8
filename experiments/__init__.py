"""Sweeps over ablations and seeds, benchmarks, and the records of experiments."""
