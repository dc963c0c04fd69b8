r"""Shows what the devices of a mesh hold and send in a step, by the compiled program.

    python -m experiments.communication --config=paper \
        --config.mesh.data=1 --config.mesh.tower=2 --config.train.batch_size=128

Compiles the train step without running it, and prints its collectives and the bytes of
each device beside the closed form that follows from the table of layers. On a CPU any
mesh can be compiled. docs/devices.md explains the numbers.
"""

from collections.abc import Sequence

from alexnet_jax.system import tensorflow_log

tensorflow_log.silence()

from absl import app, flags, logging

from alexnet_jax import build, mesh
from alexnet_jax.system import command_line, tables
from experiments.communication import closed_form, compiled, machines
from experiments.communication.collective import Collective, count_arrays


def side_by_side(
    found: Sequence[Collective], closed: Sequence[Collective]
) -> list[list[str]]:
    """Rows of the compiled collectives beside the closed form, below a heading."""
    rows = [['collective', 'axis', 'where', 'arrays', 'bytes', 'closed form']]
    rest = list(closed)
    for one in found:
        match = next(
            (other for other in rest if count_arrays([other]) == count_arrays([one])),
            None,
        )
        if match:
            rest.remove(match)
        rows.append(
            [
                *(one.kind, one.axis, match.where if match else '?'),
                *(str(len(one.arrays)), f'{one.bytes:,}'),
                f'{match.bytes:,}' if match else '–',
            ]
        )
    rows += [
        [
            *(one.kind, one.axis, one.where),
            *(str(len(one.arrays)), '–', f'{one.bytes:,}'),
        ]
        for one in rest
    ]
    return rows


def main(argv: Sequence[str], holder: flags.FlagHolder) -> None:
    """Compiles the step of `--config` and prints what it holds and sends."""
    command_line.reject_positionals(argv)
    config = command_line.checked_config(holder)
    logging.set_verbosity(logging.WARNING)
    mesh.request_cpu_devices(
        (config.mesh.data or 1) * (config.mesh.tower or config.model.towers)
    )
    batch_size = config.train.batch_size
    with command_line.user_errors():
        if not config.model.num_classes:
            raise ValueError(
                'config.model.num_classes=0 leaves it to the data set, which is not '
                'read here; give a number ≥ 2'
            )
        training = build.training(
            config, num_classes=config.model.num_classes, num_examples=batch_size
        )
    network, axes = training.network, training.mesh.shape
    data, tower = axes[mesh.DATA], axes[mesh.TOWER]
    platform = training.mesh.devices.flat[0].platform
    print(f'{data} × {tower} (data × tower) {platform} devices', end='\n\n')
    program = compiled.compile_step(config, training)
    found = compiled.collectives(program.as_text() or '', axes)
    closed = closed_form.expected(network, batch_size, data, tower)
    print(tables.aligned(side_by_side(found, closed), left=(0, 1, 2)), end='\n\n')
    held = compiled.held_bytes(program)
    parameters = f'{closed_form.parameter_bytes(network, tower):,}'
    activations = closed_form.activation_bytes(network, batch_size, data, tower)
    rows = [
        ['on each device', 'bytes', 'closed form'],
        ['parameters', f'{held["parameters"]:,}', parameters],
        ['momentum', f'{held["momentum"]:,}', parameters],
        ['activations', '–', f'{activations:,}'],
        ['temporary, activations among it', f'{held["temporary"]:,}', '–'],
    ]
    print(tables.aligned(rows), end='\n\n')
    sent = closed_form.sent_bytes(network, batch_size, data, tower)
    for axis, size in sent.items():
        print(f'sent along {axis} by each device, in a ring: {size:,.0f} bytes a step')
    print('\ncomputed from assumed speeds (docs/devices.md), not measured:\n')
    print(tables.aligned(machines.computed_rows(network), left=(0, 2)))


if __name__ == '__main__':
    # Not at import: a flag of this name may be defined only once in a process.
    _CONFIG = command_line.define_config()
    app.run(lambda argv: main(argv, _CONFIG), flags_parser=command_line.parse_flags)
