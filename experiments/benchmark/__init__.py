"""What is fast, measured against its peers and its ceilings in one run.

`__main__.py` is the command, `rounds.py` measures; `step`, `layers`, `scaling` and so
on are the benchmarks. What they compare runs in processes of its own (`worker.py`):
`ours.py`, the peers `plain_flax.py` and `pytorch.py`, and `ceilings.py`.
"""
