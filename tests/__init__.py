"""The tests; what several of them need is in conftest.py and reference_numpy.py."""
