"""Times of a step on machines that are assumed: computed, not measured."""

import dataclasses

from alexnet_jax.mesh import DATA, TOWER
from alexnet_jax.model import Network, layer_shapes
from experiments import arithmetic
from experiments.communication.closed_form import sent_bytes


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices and links as *assumed* for a computed time; docs/devices.md says why."""

    name: str
    devices: int
    flops: float  # of one device, per second
    along_tower: float  # bytes per second that a device sends, one direction
    along_data: float
    batch_sizes: tuple[int, ...]


_PCIE2, _PCIE3, _NVLINK, _INFINIBAND = 6e9, 12e9, 450e9, 50e9
MACHINES = (
    Machine('two GTX 580, PCIe 2', 2, 1.58e12, _PCIE2, _PCIE2, (128,)),
    Machine('two, PCIe 3', 2, 100e12, _PCIE3, _PCIE3, (128,)),
    Machine('eight, NVLink 4', 8, 100e12, _NVLINK, _NVLINK, (512, 1024)),
    Machine('8 × eight, InfiniBand', 64, 100e12, _NVLINK, _INFINIBAND, (4096, 1024)),
    Machine(
        '128 × eight, InfiniBand', 1024, 100e12, _NVLINK, _INFINIBAND, (65_536, 1024)
    ),
)


def computed_rows(network: Network) -> list[list[str]]:
    """Rows of the times that follow from `MACHINES`, below a heading.

    Each time is the bytes over the speed of the link, or the products over the rate of
    the devices; nothing overlaps, and a message costs nothing to begin.
    """
    rows = [
        [
            *('machine', 'devices', 'data × tower', 'batch'),
            *('MB along `tower`', 'MB along `data`'),
            *('ms `tower`', 'ms `data`', 'ms products'),
        ]
    ]
    operations = arithmetic.operations(layer_shapes(network), training=True)
    for machine in MACHINES:
        for batch_size in machine.batch_sizes:
            for tower in range(1, network.towers + 1):
                data = machine.devices // tower
                if machine.devices % tower or network.towers % tower:
                    continue
                if batch_size % data:
                    continue
                sent = sent_bytes(network, batch_size, data, tower)
                seconds = [
                    sent[TOWER] / machine.along_tower,
                    sent[DATA] / machine.along_data,
                    batch_size * operations / machine.devices / machine.flops,
                ]
                rows.append(
                    [
                        *(machine.name, f'{machine.devices:,}'),
                        *(f'{data:,} × {tower}', f'{batch_size:,}'),
                        *(f'{sent[axis] / 1e6:.1f}' for axis in (TOWER, DATA)),
                        *(f'{1e3 * time:.2f}' for time in seconds),
                    ]
                )
    return rows
