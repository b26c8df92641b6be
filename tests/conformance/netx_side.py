"""Run one network file in lava netx, fixed-point simulation on the CPU; in Lava's environment.

    python netx_side.py JOB.json

The job names the file, the input (``.npy``, lapilli's layout without batch), where it enters, how
many bits a message has, what is read, and where the result goes: an array ``[neurons..., T]`` in
lapilli's order, or a text file with the name of the exception.
"""

import json
import sys

import numpy as np
from lava.lib.dl import netx
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc import io
from lava.proc.monitor.process import Monitor


def turned(x):
    """Swap (C, H, W, T) and netx's (W, H, C, T)."""
    return x.transpose(2, 1, 0, 3) if x.ndim == 4 else x


def simulate(job):
    x = turned(np.load(job["input"]))
    steps = x.shape[-1]
    net = netx.hdf5.Network(
        net_config=job["net"], input_message_bits=job["bits"], input_shape=x.shape[:-1]
    )
    probe = None
    if job["enters"] == "bias":  # constant in time
        net.in_layer.neuron.bias_mant.init = x[..., 0].astype(np.int32)
    else:
        port = net.in_layer.neuron.a_in if job["enters"] == "neuron" else net.inp
        source = io.source.RingBuffer(data=x.astype(np.int32))
        source.s_out.connect(port)
    if job["reads"] == "voltage":
        probe = Monitor()
        probe.probe(net.out_layer.neuron.v, steps)
    sink = io.sink.RingBuffer(shape=net.out.shape, buffer=steps)
    net.out.connect(sink.a_in)
    try:
        net.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        if probe is None:
            return turned(np.asarray(sink.data.get()))
        (process,) = probe.get_data().values()
        (values,) = process.values()
        return np.asarray(values).T
    finally:
        net.stop()


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        job = json.load(file)
    try:
        y = simulate(job)
    except Exception as error:
        with open(job["error"], "w") as file:
            file.write(type(error).__name__)
        raise
    np.save(job["output"], y)
