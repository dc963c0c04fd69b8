"""AlexNet (Krizhevsky, Sutskever, Hinton 2012) in JAX.

main        trains a network, or goes on with a run; `python -m alexnet_jax` lists all
            commands
prepare     turns a data set into square records, before or without training
config      what every key of a config may hold; files, differences
configs     the shipped networks and runs, one file each
summary     a config's parameters, shapes, memory and steps without its data
model       the network as a table of layers, and the module that applies it
layer_steps what a layer does after its weighted sum
layers      each operation: its signature, its source, its plain formula
windows     the windows of convolutions and pools, in numbers
cpu         the same operations in the forms that XLA's CPU backend runs fastest
randomness  every stream of random numbers, by name from the seed
optimizer   the 2012 update and the schedules of its rate
mesh        the ('data', 'tower') mesh and what lies where on it
train_state what a run carries from step to step, and where it lies
build       from a config to what trains, for runs, experiments and tests
step        the compiled train, evaluation and prediction steps
train       train_and_evaluate: the whole run, top to bottom
validation  the errors of a split while a run trains
evaluate    1-view and 10-view errors of a run or an ensemble
metrics     loss and errors as sums and counts
weights     reads and writes the weights of other projects
figures     draws the curves of runs
data        any image set → square records → augmented batches (tfds, grain)
formats     weights in the files of other projects, in and out
analysis    what is done with a trained network
run         what a run leaves behind: checkpoints (orbax), metrics (clu), files
system      flags and errors, several processes, the compilation cache, huge pages
"""

__version__ = '0.2.0'
