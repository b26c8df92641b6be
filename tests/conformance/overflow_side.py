"""Write what Lava's models of the chip make of inputs that do not fit; in Lava's environment.

    python tests/conformance/overflow_side.py tests/kernels/overflow_of_lava.npz

Each neuron gets its input alone, without synapses, as integers in units of weights. The file holds
inputs, parameters, and the states and spikes that the fixed-point simulation gives; the tests of
the kernels compare it with theirs, so that they need no Lava.
"""

import sys

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from lava.proc.rf.process import RF
from lava.proc.rf_iz.process import RF_IZ

NEURONS, STEPS = 24, 40
LIMIT = 2**17  # of 24-bit states, in units of weights


def inputs(rng):
    """Return inputs ``[neurons, steps]``, each neuron with a size of its own; some at an edge."""
    sizes = LIMIT * 2.0 ** rng.uniform(-6, 3, (NEURONS, 1))
    x = np.rint(sizes * rng.uniform(-1, 1, (NEURONS, STEPS)) * (rng.random((NEURONS, STEPS)) < 0.6))
    x[:8] = np.abs(x[:8])  # one way, until it comes round
    x[8:12] = -np.abs(x[8:12])
    x[12, :6] = [LIMIT, 0, 1, -LIMIT, -LIMIT, -1]  # at the edge of 24 bits, on both sides
    x[13, :6] = [-LIMIT, 0, -1, LIMIT, LIMIT, 1]
    return x.astype(np.int32)


def simulate(process, ports, data, names):
    """Run a process and return its spikes and, by name, its states, each ``[neurons, steps]``."""
    for port, x in zip(ports, data, strict=True):
        Source(data=x).s_out.connect(port)
    sink = Sink(shape=(NEURONS,), buffer=STEPS)
    process.s_out.connect(sink.a_in)
    monitors = [Monitor() for _ in names]
    for monitor, name in zip(monitors, names, strict=True):
        monitor.probe(getattr(process, name), STEPS)
    process.run(condition=RunSteps(STEPS), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    states = {}
    for monitor, name in zip(monitors, names, strict=True):
        (of_process,) = monitor.get_data().values()
        (values,) = of_process.values()
        states[name] = np.asarray(values).T.astype(np.int32)
    spikes = np.asarray(sink.data.get()).astype(bool)
    process.stop()
    return spikes, states


def main(path):
    rng = np.random.default_rng(0)
    found = {}
    for name, threshold, decays in (("cuba_slow", 2**16, (41, 41)), ("cuba_still", 2**15, (1, 0))):
        x = inputs(rng)
        du, dv = decays[0] - 1, decays[1]  # Lava adds 1 to the first
        process = LIF(shape=(NEURONS,), du=du, dv=dv, vth=threshold)
        spikes, states = simulate(process, [process.a_in], [x], ("u", "v"))
        found[name] = {"x": x, "spikes": spikes, "threshold": threshold, "decays": decays, **states}
    for name, cls in (("rf", RF), ("rf_iz", RF_IZ)):
        x, y = inputs(rng), inputs(rng)
        threshold = 2**16
        process = cls(
            shape=(NEURONS,), period=7, alpha=0.03, vth=threshold, state_exp=6, decay_bits=12
        )
        decays = [int(process.sin_decay.init), int(process.cos_decay.init)]
        spikes, states = simulate(
            process, [process.a_real_in, process.a_imag_in], [x, y], ("real", "imag")
        )
        found[name] = {
            "x": x, "y": y, "spikes": spikes, "threshold": threshold, "decays": decays, **states,
        }  # fmt: skip
    np.savez_compressed(
        path, **{f"{name}/{key}": v for name, values in found.items() for key, v in values.items()}
    )


if __name__ == "__main__":
    main(sys.argv[1])
