"""AlexNet (Krizhevsky, Sutskever, Hinton 2012) in JAX.

    import alexnet_jax
    net = alexnet_jax.load('runs/demo')             # a trained network of a workdir
    net = alexnet_jax.network('paper')              # a shipped one, random weights
    net.predict(images), net.activations(images, ['conv1/lrn', 'fc7']), net.params

docs/python.md has the whole of it. The modules:

main        trains a network, or goes on with a run; `python -m alexnet_jax` lists all
            commands
replay      a step again whose loss was not finite, from the dump that it left
prepare     turns a data set into square records, before or without training
config      every value of a config checked before anything starts:
config_keys  what each key may hold
config_data_keys  the same of `data`
config_pairs  what values must be to each other
config_rules  what a rule is
configs     the shipped networks and runs, one file each
memory      how much memory a run needs, before it is allocated
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
taps        the compiled activations of any layer and step
train       train_and_evaluate: the whole run, top to bottom
validation  the errors of a split while a run trains
predict     the classes of photographs
features    any layer of photographs or of a data set, into files
neighbours  the nearest training images (Figure 4), and linear probes
export_workdir no more of a run than prediction needs
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

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_jax.analysis.net import Net, load, network
    from alexnet_jax.model import AlexNet

__all__ = ['AlexNet', 'Net', 'load', 'network']
__version__ = '0.3.0.dev0'


def __getattr__(name: str) -> Any:
    """Imports what the names above stand for when they are used: jax takes seconds."""
    if name == 'AlexNet':
        from alexnet_jax import model

        return model.AlexNet
    if name in __all__:
        from alexnet_jax.analysis import net

        return getattr(net, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
