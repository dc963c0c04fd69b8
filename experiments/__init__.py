"""Sweeps over ablations and seeds, and the records of experiments."""
