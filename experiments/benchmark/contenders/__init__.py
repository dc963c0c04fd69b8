"""What takes part in the benchmarks: functions from settings to a repetition.

`ours.py` is this package, `plain_flax.py` and `pytorch.py` are the peers, `ceilings.py`
is what the machine could do at most; `readers.py` are input pipelines on photographs,
`generated.py` is ours on generated records. `../worker.py` runs each in a process of
its own.
"""
