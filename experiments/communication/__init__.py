"""What the devices of a mesh hold and send in one step.

`collective.py` is one operation of a group of devices; `compiled.py` reads them from
the compiled program, `closed_form.py` derives them from the table of layers, and
`machines.py` computes times from them for machines that are assumed. `__main__.py` is
the command.
"""
