"""AlexNet (Krizhevsky, Sutskever, Hinton 2012) in JAX.

main        the command line: flags → a validated config → training
config      what every key of a config may hold; files, differences
model       the network as a table of layers, and the module that applies it
layers      convolution, pooling, normalisation and dropout, tower by tower
optimizer   the 2012 update and the schedules of its rate
mesh        the ('data', 'tower') mesh and what lies where on it
processes   several processes of one run: start, agree, take turns
step        the training state and the compiled train and eval steps
trained     a workdir's best network
train       train_and_evaluate: the whole run, top to bottom
evaluate    1-view and 10-view errors of a run or an ensemble
metrics     loss and errors as sums and counts
checkpoint  saving, verifying and restoring (orbax)
writers     metrics.jsonl, TensorBoard (clu), config and provenance files
compilation_cache  compiled programs are kept between runs
huge_pages  a process is started so that it gets them
figures     curves and kernel pictures
data        any image set → square records → augmented batches (tfds, grain)
"""
