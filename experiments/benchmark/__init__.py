"""What is fast, measured against its peers and its ceilings in one run.

`__main__.py` is the command. Each benchmark is a module with two functions: `measure`
makes the record, `report` makes the tables of it.

train_step_time, forward_time  ours, the peers and the ceilings (comparison)
layer_times                    our step, layer by layer
input_rate                     input pipelines on photographs
growth                         laws (fits) of the step (step_growth) and of the input
                               (input_growth, on a generated_set)
prediction                     photographs through predict, and the command on one
scaling, startup               more devices; from the command to the first step

`rounds.py` measures contenders in turn, each in a process of its own (`worker.py`) that
runs a function of `contenders/`.
"""

# By its name: the module that measures it, and what.
BENCHMARKS = {
    'step': ('train_step_time', 'one training step against PyTorch and plain Flax'),
    'forward': ('forward_time', 'the logits of one batch against the same'),
    'layers': ('layer_times', 'where the time of our step goes'),
    'pipeline': (
        'input_rate',
        'images a second of the input, against DataLoader and tf.data',
    ),
    'predict': (
        'prediction',
        '1,000 photographs through predict, against its two halves alone',
    ),
    'scaling': ('scaling', 'one device and core against two'),
    'growth': ('growth', 'time and memory against batch, width, records and steps'),
    'startup': ('startup', 'from the command to the first step, phase by phase'),
}
