"""What the devices hold and send, read from the compiled step.

The networks are compiled whole, at batch 128, and never run.
"""

import math
import re
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from alexnet_jax import build, model
from experiments.communication import __main__ as command
from experiments.communication import closed_form, compiled, machines
from experiments.communication.collective import (
    Collective,
    count_arrays,
    wire_bytes,
)
from tests.test_config import load

BATCH = 128
DOCS = Path(__file__).parents[1] / 'docs' / 'devices.md'
# configs, data, tower
PROGRAMS = [
    ('paper', 1, 1),
    ('paper', 1, 2),
    ('paper', 2, 1),
    ('paper', 2, 2),
    ('columns', 2, 2),
    ('caffe', 1, 2),
]
AXES = {'data': 2, 'tower': 2}


@pytest.fixture(scope='module')
def programs():
    """A function that compiles a network for a mesh, each only once."""
    made = {}

    def program(name: str, data: int, tower: int) -> jax.stages.Compiled:
        if (name, data, tower) not in made:
            config = config_for(name, data, tower)
            made[name, data, tower] = compiled.compile_step(config, built(config))
        return made[name, data, tower]

    return program


def config_for(name: str, data: int, tower: int) -> ConfigDict:
    config = load(name)
    config.train.batch_size = BATCH
    config.mesh.data, config.mesh.tower = data, tower
    return config


def built(config: ConfigDict) -> build.Training:
    return build.training(config, num_classes=1000, num_examples=BATCH)


def network_of(name: str) -> model.Network:
    config = load(name)
    return model.network_from_config(config.model, config.data.crop_size, 1000)


def found_in(program: jax.stages.Compiled, data: int, tower: int) -> list[Collective]:
    axes = {'data': data, 'tower': tower}
    return compiled.collectives(program.as_text(), axes)


@pytest.mark.parametrize(('name', 'data', 'tower'), PROGRAMS)
def test_compiled_collectives_are_those_of_the_closed_form(programs, name, data, tower):
    found = found_in(programs(name, data, tower), data, tower)
    closed = closed_form.expected(network_of(name), BATCH, data, tower)
    assert count_arrays(found) == count_arrays(closed)


def test_paper_net_on_one_device_sends_nothing(programs):
    assert found_in(programs('paper', 1, 1), 1, 1) == []


def test_towers_talk_only_before_conv3_fc6_fc7_and_at_fc8(programs):
    """§3.2, Figure 2, with the bytes written out: 128 images of float32."""
    found = found_in(programs('paper', 1, 2), 1, 2)
    conv3, fc6, fc7 = (128 * 4 * n for n in (13 * 13 * 256, 6 * 6 * 256, 4096))
    assert [(one.kind, one.axis, one.bytes) for one in found] == [
        ('all-gather', 'tower', conv3),
        ('all-gather', 'tower', fc6),
        ('all-gather', 'tower', fc7),
        ('all-reduce', 'tower', 128 * 4 * 1000),
        ('reduce-scatter', 'tower', fc7),
        ('reduce-scatter', 'tower', fc6),
        ('reduce-scatter', 'tower', conv3),
    ]


@pytest.mark.parametrize('tower', [1, 2])
def test_across_data_go_each_gradient_once_and_four_numbers(programs, tower):
    found = found_in(programs('paper', 2, tower), 2, tower)
    across = [one for one in found if one.axis == 'data']
    assert {one.kind for one in across} == {'all-reduce'}
    sizes = sorted(size for one in across for size in one.arrays)
    assert len(sizes) == 16 + 1  # kernels and biases of eight layers; the metrics
    assert sizes[0] == 4 * 4
    whole_bias = 1000 * 4  # fc8's lies on both towers
    assert sum(sizes[1:]) == (60_965_224 * 4 - whole_bias) // tower + whole_bias


def test_columns_do_not_communicate_before_fc8(programs):
    found = found_in(programs('columns', 2, 2), 2, 2)
    across = [one for one in found if one.axis != 'data']
    assert [(one.kind, one.axis, one.bytes) for one in across] == [
        ('all-reduce', 'tower', BATCH // 2 * 1000 * 4)
    ]


@pytest.mark.parametrize(('name', 'data', 'tower'), PROGRAMS)
def test_a_device_holds_its_towers_parameters_and_momentum(programs, name, data, tower):
    program = programs(name, data, tower)
    held = compiled.held_bytes(program)
    closed = closed_form.parameter_bytes(network_of(name), tower)
    assert held['parameters'] == held['momentum'] == closed
    # The program's own account: beside them it takes the batch, the mean and counters.
    arguments = program.memory_analysis().argument_size_in_bytes
    config = load(name)
    size, stored = config.data.crop_size, config.data.stored_size
    images = BATCH // data * (size * size * 3 + 4 + 12 + 4 + 8 + 1)
    mean = (stored if config.data.mean == 'crop' else size) ** 2 * 3 * 4
    # (Corners and mirrors, 9 bytes an image, are dropped where nothing reads them.)
    assert arguments == pytest.approx(2 * closed + images + mean, abs=2048)


def test_two_towers_halve_what_a_device_holds(programs):
    network = network_of('paper')
    one, two = (programs('paper', 1, tower) for tower in (1, 2))
    parameters = [closed_form.parameter_bytes(network, tower) for tower in (1, 2)]
    assert parameters[1] / parameters[0] == pytest.approx(0.5, abs=1e-4)
    activations = [
        closed_form.activation_bytes(network, BATCH, 1, tower) for tower in (1, 2)
    ]
    assert activations[1] / activations[0] == pytest.approx(0.573, abs=1e-3)
    scratch = [compiled.held_bytes(each)['temporary'] for each in (one, two)]
    assert scratch[1] < 0.6 * scratch[0]


def test_activations_are_the_layers_outputs():
    network = network_of('paper')
    linear = [55 * 55 * 96, 27 * 27 * 256, 13 * 13 * 384, 13 * 13 * 384, 13 * 13 * 256]
    pooled = [27 * 27 * 96, 13 * 13 * 256, 6 * 6 * 256]
    flat = 4096 + 4096
    maps = sum(linear) + sum(pooled) + flat
    assert closed_form.activation_bytes(network, 1, 1, 1) == 4 * (maps + 1000)
    gathered = 13 * 13 * 256 + 6 * 6 * 256 + 4096
    assert closed_form.activation_bytes(network, 1, 1, 2) == 4 * (
        maps // 2 + 1000 + gathered
    )


def test_bfloat16_halves_what_the_towers_send():
    """Read before XLA compiles: its CPU backend widens these to float32 again."""
    config = config_for('paper', 1, 2)
    config.model.compute_dtype = 'bfloat16'
    training = built(config)
    text = compiled.lower_step(config, training).as_text()
    gathered = re.findall(r'"stablehlo.all_gather".*-> tensor<([\dx]+)xbf16>', text)
    closed = closed_form.expected(training.network, BATCH, 1, 2)
    assert [
        2 * math.prod(int(extent) for extent in shape.split('x')) for shape in gathered
    ] == [one.bytes for one in closed if one.kind == 'all-gather']


def test_each_part_of_a_ring_sends_what_is_not_its_own():
    gather = Collective('all-gather', 'tower', (1200,))
    reduce = Collective('all-reduce', 'data', (1000, 200))
    assert wire_bytes(gather, 4) == 900
    assert wire_bytes(reduce, 4) == 1800
    assert wire_bytes(reduce, 1) == 0


LINES = [
    (
        '%all_gather.9 = f32[8,13,13,32]{2,1,0,3} all-gather(%x), channel_id=1, '
        'replica_groups={{0,1},{2,3}}, dimensions={3}, use_global_device_ids=true',
        [Collective('all-gather', 'tower', (8 * 13 * 13 * 32 * 4,))],
    ),
    (
        '%p = f32[4]{0} all-reduce(%c), replica_groups={{0},{1},{2},{3}}, to_apply=%r',
        [],
    ),
    (
        '  ROOT %all-reduce.2 = (f32[6]{0}, f32[11,11,3,6]{3,2,1,0}, /*index=2*/f32[])'
        ' all-reduce(%a, %b, %c), replica_groups={{0,2},{1,3}}, to_apply=%add',
        [Collective('all-reduce', 'data', (24, 11 * 11 * 3 * 6 * 4, 4))],
    ),
    (  # its result is one part of what is reduced
        '%reduce_scatter.21 = bf16[8,256]{0,1} reduce-scatter(%x), '
        'replica_groups=[2,2]<=[4], dimensions={1}, to_apply=%region',
        [Collective('reduce-scatter', 'tower', (8 * 512 * 2,))],
    ),
    (
        '%a = f32[6]{0} all-reduce(%x), replica_groups=[2,2]<=[2,2]T(1,0), to_apply=%r',
        [Collective('all-reduce', 'data', (24,))],
    ),
    (  # as jax 0.12 has it
        '%a = f32[8,4]{1,0} all-gather(%x), '
        "replica_groups=mesh['data'=2,'tower'=2] {'tower'}, dimensions={1}",
        [Collective('all-gather', 'tower', (8 * 4 * 4,))],
    ),
    (
        '%a = f32[6]{0} all-reduce(%x), '
        "replica_groups=mesh['data'=2,'tower'=2] {'data'}, to_apply=%r",
        [Collective('all-reduce', 'data', (24,))],
    ),
    (
        '%a = f32[6]{0} all-reduce(%x), replica_groups={}, to_apply=%r',
        [Collective('all-reduce', 'data+tower', (24,))],
    ),
    (
        '%ppermute.24 = f32[8,55,55,2]{3,2,1,0} collective-permute(%m), channel_id=1, '
        'source_target_pairs={{0,1},{2,3}}',
        [Collective('collective-permute', 'tower', (8 * 55 * 55 * 2 * 4,))],
    ),
    (
        '%s = (f32[8,256]{1,0}, f32[8,512]{1,0}) all-gather-start(%x), '
        'replica_groups=[2,2]<=[4], dimensions={1}',
        [Collective('all-gather', 'tower', (8 * 512 * 4,))],
    ),
    (
        '%s = ((f32[8,512]{1,0}), f32[8,256]{1,0}) reduce-scatter-start(%x), '
        'replica_groups=[2,2]<=[4], dimensions={1}, to_apply=%r',
        [Collective('reduce-scatter', 'tower', (8 * 512 * 4,))],
    ),
    (
        '%s = (f32[2]{0}, f32[2]{0}, u32[], u32[]) collective-permute-start(%m), '
        'source_target_pairs={{0,2},{1,3}}',
        [Collective('collective-permute', 'data', (8,))],
    ),
    (
        '%s = (f32[6]{0}, f32[2]{0}) all-reduce-start(%x, %y), '
        'replica_groups={{0,2},{1,3}}, to_apply=%r',
        [Collective('all-reduce', 'data', (24, 8))],
    ),
    ('%d = f32[8,512]{1,0} all-gather-done(%s)', []),
    ('%f = pred[3]{0} fusion(%all-gather.3), calls=%c, metadata={op_name="x/add"}', []),
    (
        '%a = pred[3]{0} all-to-all(%x), replica_groups={{0,1},{2,3}}, dimensions={0}',
        [Collective('all-to-all', 'tower', (3,))],
    ),
]


@pytest.mark.parametrize(('line', 'found'), LINES)
def test_a_line_of_a_module_is_read(line, found):
    assert compiled.collectives(f'  {line}\n', AXES) == found


def test_groups_in_an_unknown_form_are_refused():
    line = '%a = f32[6]{0} all-reduce(%x), replica_groups=@mesh, to_apply=%r'
    with pytest.raises(ValueError, match=r'no groups.*@mesh'):
        compiled.collectives(line, AXES)


def test_table_shows_what_either_side_lacks():
    same = Collective('all-gather', 'tower', (8,), 'conv3')
    rows = command.side_by_side(
        [
            Collective('all-gather', 'tower', (8,)),
            Collective('all-reduce', 'data', (4,)),
        ],
        [same, Collective('all-reduce', 'data', (12,), 'gradients')],
    )
    assert rows[1:] == [
        ['all-gather', 'tower', 'conv3', '1', '8', '8'],
        ['all-reduce', 'data', '?', '1', '4', '–'],
        ['all-reduce', 'data', 'gradients', '1', '–', '12'],
    ]


def test_documented_tables_are_the_closed_form():
    documented = DOCS.read_text().splitlines()
    network = network_of('paper')
    computed = machines.computed_rows(network)
    rows = [f'| {" | ".join(cells)} |' for cells in computed]
    assert [row for row in rows if row not in documented] == []
    for data, tower in ((1, 2), (2, 1), (2, 2)):
        closed = closed_form.expected(network, BATCH, data, tower)
        for one in closed:
            size = f' {one.bytes:,} |'
            assert any(one.kind in row and size in row for row in documented), one
