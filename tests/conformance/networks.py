"""The networks that run in lapilli and in lava netx, and how their outputs relate.

``o`` is netx's output, ``y`` lapilli's in eval mode. Where a layer has a bias, netx integrates it
one step earlier: ``y`` is then that of the input behind one silent step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lapilli.blocks import adrf, alif, cuba, rf, rf_iz, sigma_delta
from lapilli.neurons.norm import MeanOnlyBatchNorm, WgtScaleBatchNorm
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

STEPS = 60
CUBA: dict[str, Any] = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
MEAN: dict[str, Any] = {"norm": MeanOnlyBatchNorm}
PER_CHANNEL = {"current_decay": (0.1, 0.5), "voltage_decay": (0.01, 0.2), "shared_param": False}
ROTATING = {"threshold": 0.5, "period": 9.0, "decay": 0.05}
ADAPTING = {"threshold_step": 1.0, "threshold_decay": 0.1, "refractory_decay": 0.1}
SENDING: dict[str, Any] = {"threshold": 0.1, "activation": relu}
EVENT = 4096  # units in 1 of a sigma-delta message


# what the code of a Fault may name
_NAMES = {
    "adrf": adrf,
    "alif": alif,
    "cuba": cuba,
    "rf": rf,
    "sigma_delta": sigma_delta,
    "gelu": gelu,
    "MeanOnlyBatchNorm": MeanOnlyBatchNorm,
    "WgtScaleBatchNorm": WgtScaleBatchNorm,
    "biased": lambda block: _with_bias([block])[0],
    "CUBA": CUBA,
    "ROTATING": ROTATING,
    "ADAPTING": ADAPTING,
    "SENDING": SENDING,
}


def spikes(shape: tuple[int, ...]) -> Tensor:
    return (torch.rand(1, *shape, STEPS) < 0.3).float()


def pulses(shape: tuple[int, ...]) -> Tensor:
    """Spikes that come together, every seven steps: a resonator adds them up."""
    return (torch.rand(1, *shape, STEPS) < 0.8) * (torch.arange(STEPS) % 7 < 3).float()


def changes(shape: tuple[int, ...]) -> Tensor:
    """Sparse graded input, multiples of 1/64."""
    x = torch.round(torch.randn(1, *shape, STEPS) * 16) / 64
    return x * (torch.rand_like(x) < 0.4)


def levels(shape: tuple[int, ...]) -> Tensor:
    """Input that drifts, on the grid of an Input block."""
    return torch.round(torch.sin(torch.rand(1, *shape, 1) * torch.arange(STEPS)) * 24) / 32


def constants(shape: tuple[int, ...]) -> Tensor:
    return (torch.randint(0, 48, (1, *shape, 1)) / 32).expand(1, *shape, STEPS).contiguous()


@dataclass(frozen=True)
class Case:
    """``relation``: how ``o`` follows from ``y``; ``lag`` steps later, ``scale`` times as large."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    relation: str = "o[t] = y[t]"
    lag: int = 0
    scale: int = 1
    data: Callable[[tuple[int, ...]], Tensor] = spikes
    unit: int = 1  # integers in 1 of the input
    bits: int = 0  # of an input message
    enters: str = "port"
    reads: str = "output"
    silent_first: bool = False
    overflows: bool = False  # states must pass 24 bits, and lapilli run must see the same


@dataclass(frozen=True)
class Fault:
    """What netx makes of a network that ``lapilli check`` refuses: an exception or other spikes."""

    name: str
    code: str  # its blocks, as the report shows them
    shape: tuple[int, ...]
    outcome: str
    data: Callable[[tuple[int, ...]], Tensor] = spikes
    options: dict[str, Any] = field(default_factory=dict)

    def make(self) -> nn.Module:
        return nn.Sequential(*eval(f"[{self.code}]", dict(_NAMES)))


def _chain(*blocks: nn.Module) -> nn.Module:
    return nn.Sequential(*blocks)


def _with_bias(net: Any) -> Any:
    for block in net:
        for name in ("norm", "real_norm"):
            norm = getattr(block.neuron, name, None)
            if norm is not None:
                norm.running_mean = torch.linspace(-0.4, 0.4, block.synapse.out_channels)
                norm._sized("running_mean")
    return net


def _conv(**options: Any) -> nn.Module:
    return _chain(
        cuba.Input(delay_shift=False),
        cuba.Conv(CUBA, 2, 8, 3, padding=1, weight_scale=2, **options),
        cuba.Conv(CUBA, 8, 12, 3, stride=2, groups=2, weight_scale=4),
        cuba.Conv(CUBA, 12, 8, (2, 1), dilation=(1, 2), weight_scale=4),
        cuba.Flatten(),
        cuba.Dense(CUBA, 120, 11, weight_scale=4),
    )


def _delta(**options: Any) -> Any:
    return _chain(
        sigma_delta.Dense(SENDING, 12, 10, weight_scale=2, **options),
        sigma_delta.Dense(SENDING, 10, 8, weight_scale=2, **options),
        sigma_delta.Dense(SENDING, 8, 4, weight_scale=2, **options),
    )


def _biased_delta() -> nn.Module:
    net = _delta(delay_shift=True)
    for block in net:
        block.neuron.set_bias(torch.linspace(-16, 48, block.synapse.out_channels).round() / 64)
    return net


CHIP = {"overflow": "loihi"}
STILL = {"threshold": 2047.0, "current_decay": 0.0, "voltage_decay": 0.5} | CHIP
TURNING = {"threshold": 2000.0, "period": 7.0, "decay": 0.0} | CHIP


def _heavy(block: Any) -> nn.Module:
    """States that pass 24 bits, upwards and downwards."""
    synapse = getattr(block, "input_synapse", None) or block.synapse
    with torch.no_grad():
        for part in (synapse.real, synapse.imag) if synapse.complex else (synapse,):
            part.weight[:5].fill_(3.96875)
            part.weight[5:].fill_(-4.0)
            part.weight[::2, 0].fill_(0.5)
    return _chain(block)


def _cuba_input() -> nn.Module:
    params = CUBA | {"current_decay": 1.0, "threshold": 2.0}
    return _chain(
        cuba.Input(params, weight=1.0, bias=0.25), cuba.Dense(CUBA, 12, 6, weight_scale=4)
    )


CASES = [
    Case("CUBA dense, 2 layers",
         lambda: _chain(cuba.Dense(CUBA, 34, 16, weight_scale=3),
                        cuba.Dense(CUBA, 16, 8, weight_scale=3)), (34,)),
    Case("CUBA dense, 3 layers",
         lambda: _chain(cuba.Dense(CUBA, 34, 16, weight_scale=3),
                        cuba.Dense(CUBA, 16, 8, weight_scale=3),
                        cuba.Dense(CUBA, 8, 3, weight_scale=3)), (34,)),
    Case("CUBA dense, decays per channel",
         lambda: _chain(cuba.Dense(CUBA | PER_CHANNEL, 34, 16, weight_scale=3),
                        cuba.Dense(CUBA, 16, 8, weight_scale=3)), (34,)),
    Case("CUBA dense, scale 128",
         lambda: _chain(cuba.Dense(CUBA | {"scale": 128}, 34, 16, weight_scale=1.5),
                        cuba.Dense(CUBA, 16, 8, weight_scale=3)), (34,)),
    Case("CUBA dense, axonal delays",
         lambda: _chain(cuba.Dense(CUBA, 34, 16, weight_scale=3, delay=True),
                        cuba.Dense(CUBA, 16, 8, weight_scale=3, delay=True)), (34,)),
    Case("CUBA dense, norm",
         lambda: _with_bias(_chain(cuba.Dense(CUBA | MEAN, 34, 16, weight_scale=3),
                                   cuba.Dense(CUBA | MEAN, 16, 8, weight_scale=3))), (34,),
         relation="o[t] = y'[t+1]", silent_first=True),
    Case("CUBA dense on an image",
         lambda: _chain(cuba.Input(delay_shift=False),
                        cuba.Conv(CUBA, 2, 4, 3, weight_scale=3),
                        cuba.Dense(CUBA, (5, 4, 4), 9, weight_scale=4)), (2, 6, 7)),
    Case("CUBA conv stack: padding, stride, groups, dilation", _conv, (2, 10, 12)),
    Case("CUBA input block",
         _cuba_input, (12,), relation="o[t] = y[t+1]", lag=-1, data=constants, enters="bias"),
    Case("CUBA affine, voltage",
         lambda: _chain(cuba.Dense(CUBA, 34, 16, weight_scale=3),
                        cuba.Affine(CUBA, 16, 5, weight_scale=2)), (34,),
         relation="v[t] = 4096 y[t-1]", lag=1, scale=4096, reads="voltage"),
    Case("CUBA recurrent, 2 layers",
         lambda: _chain(cuba.Recurrent(CUBA, 34, 16, weight_scale=2),
                        cuba.Recurrent(CUBA, 16, 8, weight_scale=2)), (34,)),
    Case("CUBA KWTA", lambda: _chain(cuba.KWTA(CUBA, 34, 16, 4, weight_scale=3)), (34,)),
    Case("CUBA dense beyond 24 bits, overflow=\"loihi\"",
         lambda: _heavy(cuba.Dense(STILL, 34, 8)), (34,), overflows=True),
    Case("CUBA recurrent beyond 24 bits, overflow=\"loihi\"",
         lambda: _heavy(cuba.Recurrent(STILL | {"threshold": 20.0}, 34, 8)), (34,), overflows=True),
    Case("RF dense beyond 24 bits, overflow=\"loihi\"",
         lambda: _heavy(rf.Dense(TURNING, 120, 8)), (120,), data=pulses, overflows=True),
    Case("RF-Izhikevich dense beyond 24 bits, overflow=\"loihi\"",
         lambda: _heavy(rf_iz.Dense(TURNING, 120, 8)), (120,), data=pulses, overflows=True),
    Case("RF dense",
         lambda: _chain(rf.Dense(ROTATING, 34, 16, weight_scale=3),
                        rf.Dense(ROTATING, 16, 8, weight_scale=4)), (34,)),
    Case("RF-Izhikevich dense",
         lambda: _chain(rf_iz.Dense(ROTATING, 34, 16, weight_scale=3),
                        rf_iz.Dense(ROTATING, 16, 8, weight_scale=4)), (34,)),
    Case("sigma-delta dense",
         _delta, (12,), relation="o[t] = 4096 y[t-3]", lag=3, scale=EVENT, data=changes,
         unit=EVENT, bits=16),
    Case("sigma-delta dense, hop of one step",
         lambda: _delta(delay_shift=True), (12,), relation="o[t] = 4096 y[t]", scale=EVENT,
         data=changes, unit=EVENT, bits=16),
    Case("sigma-delta dense, bias",
         _biased_delta, (12,), relation="o[t] = 4096 y'[t+1]", scale=EVENT, data=changes,
         unit=EVENT, bits=16, silent_first=True),
    Case("sigma-delta conv",
         lambda: _chain(sigma_delta.Input(SENDING),
                        sigma_delta.Conv(SENDING, 2, 4, 3, padding=1, weight_scale=2),
                        sigma_delta.Conv(SENDING, 4, 6, 3, stride=2, weight_scale=3)), (2, 8, 9),
         relation="o[t] = 4096 y[t-2]", lag=2, scale=EVENT, data=levels, unit=64,
         enters="neuron"),
    Case("sigma-delta input block and output",
         lambda: _chain(sigma_delta.Input(SENDING),
                        sigma_delta.Dense(SENDING, 12, 8, weight_scale=2),
                        sigma_delta.Output(SENDING, 8, 4, weight_scale=2)), (12,),
         relation="o[t] = 2**18 y[t-2]", lag=2, scale=EVENT * 64, data=levels, unit=64,
         enters="neuron"),
    Case("sigma-delta input block and output, gelu, errors added up at the output",
         lambda: _chain(sigma_delta.Input(SENDING | {"activation": gelu}),
                        sigma_delta.Dense(SENDING, 12, 8, weight_scale=2),
                        sigma_delta.Output(SENDING | {"activation": gelu, "cum_error": True}, 8, 4,
                                           weight_scale=2)), (12,),
         relation="o[t] = 2**18 y[t-2]", lag=2, scale=EVENT * 64, data=levels, unit=64,
         enters="neuron"),
    Case("sigma-delta, threshold 0",
         lambda: _chain(sigma_delta.Input(SENDING | {"threshold": 0.0}),
                        sigma_delta.Dense(SENDING | {"threshold": 0.0}, 12, 8, weight_scale=2),
                        sigma_delta.Dense(SENDING | {"threshold": 0.0}, 8, 4, weight_scale=2)),
         (12,), relation="o[t] = 4096 y[t-2]", lag=2, scale=EVENT, data=levels, unit=64,
         enters="neuron"),
    Case("sigma-delta, last layer of scale 128",
         lambda: _chain(sigma_delta.Dense(SENDING, 12, 8, weight_scale=2),
                        sigma_delta.Dense(SENDING | {"scale": 128}, 8, 4, weight_scale=1)), (12,),
         relation="o[t] = 8192 y[t-2]", lag=2, scale=2 * EVENT, data=changes, unit=EVENT, bits=16),
    Case("sigma-delta, axonal delays",
         lambda: _chain(sigma_delta.Dense(SENDING, 12, 8, weight_scale=2, delay=True),
                        sigma_delta.Dense(SENDING, 8, 4, weight_scale=2)), (12,),
         relation="o[t] = 4096 y[t-2]", lag=2, scale=EVENT, data=changes, unit=EVENT, bits=16),
    Case("RF dense, decays per channel",
         lambda: _chain(rf.Dense({"threshold": 0.5, "period": (6.0, 12.0), "decay": (0.02, 0.1),
                                  "shared_param": False}, 34, 16, weight_scale=3)), (34,)),
]  # fmt: skip

_SD: dict[str, Any] = {"unit": EVENT, "bits": 16, "scale": EVENT}


FAULTS = [
    Fault("Pool", "cuba.Input(delay_shift=False), cuba.Pool(CUBA, 2)", (2, 6, 6),
          "NotImplementedError"),
    Fault("ConvT", "cuba.Input(delay_shift=False), cuba.ConvT(CUBA, 2, 2, 2)", (2, 4, 4),
          "NotImplementedError"),
    Fault("Average", "cuba.Dense(CUBA, 12, 8), cuba.Average(4)", (12,), "NotImplementedError"),
    Fault("ALIF", "alif.Dense(CUBA | ADAPTING, 12, 8)", (12,), "AttributeError"),
    Fault("ADRF: no adaptation", "adrf.Dense(ROTATING | ADAPTING, 34, 8, weight_scale=4)", (34,),
          "differs"),
    Fault("graded spikes: sent as 0 and 1",
          "cuba.Dense(CUBA | {'graded_spike': True}, 34, 8, weight_scale=3)", (34,), "differs"),
    Fault("delays of a conv layer: ignored",
          "cuba.Input(delay_shift=False), cuba.Conv(CUBA, 2, 4, 3, weight_scale=3, delay=True)",
          (2, 6, 6), "differs"),
    Fault("delays of a complex dense layer: ignored",
          "rf.Dense(ROTATING, 34, 8, weight_scale=3, delay=True)", (34,), "differs"),
    Fault("exponent of a norm: ignored",
          "cuba.Dense(CUBA | {'norm': WgtScaleBatchNorm}, 34, 8, weight_scale=8)", (34,),
          "differs"),
    Fault("complex weights without neuron", "rf.Affine(ROTATING, 34, 8, dynamics=False)", (34,),
          "AttributeError"),
    Fault("all weights of a layer zero", "cuba.Dense(CUBA, 12, 8, pre_hook_fx=lambda w: w * 0)",
          (12,), "OverflowError"),
    Fault("thresholds of sigma-delta per channel",
          "sigma_delta.Dense(SENDING | {'shared_param': False}, 12, 8, weight_scale=2)", (12,),
          "fails to start", changes, {"unit": EVENT, "bits": 16}),
    Fault("activation other than relu",
          "sigma_delta.Dense(SENDING | {'activation': gelu}, 12, 8, weight_scale=2, "
          "delay_shift=True)", (12,), "differs", changes, _SD),
    Fault("Unpool", "cuba.Input(delay_shift=False), cuba.Unpool(CUBA, 2)", (2, 4, 4),
          "NotImplementedError"),
    Fault("TimeDecimation", "cuba.Dense(CUBA, 12, 8), cuba.TimeDecimation(2)", (12,),
          "NotImplementedError"),
    Fault("Input block of a resonator", "rf.Input(ROTATING), rf.Dense(ROTATING, 12, 8)", (12,),
          "AttributeError"),
    Fault("complex convolution", "cuba.Input(delay_shift=False), rf.Conv(ROTATING, 2, 4, 3)",
          (2, 6, 6), "TypeError"),
    Fault("norm of complex neurons: ignored",
          "biased(rf.Dense(ROTATING | {'norm': MeanOnlyBatchNorm}, 34, 8, weight_scale=3))", (34,),
          "differs"),
    Fault("bias with delays: not delayed",
          "biased(cuba.Dense(CUBA | {'norm': MeanOnlyBatchNorm}, 34, 16, weight_scale=3, "
          "delay=True))", (34,), "differs", options={"silent_first": True}),
    Fault("recurrent layer with delays",
          "cuba.Recurrent(CUBA, 34, 34, weight_scale=2, delay=True)", (34,), "differs"),
    Fault("bias of KWTA: added to the voltage",
          "cuba.KWTA(CUBA | {'threshold': 30.0}, 34, 16, 1, weight_scale=40)", (34,), "differs",
          options={"silent_first": True}),
    Fault("scale that is no power of two",
          "*(cuba.Dense(CUBA | {'scale': 100, 'threshold': 1.0}, n, 128, weight_scale=3) "
          "for n in (34, 128, 128))", (34,), "differs"),
    Fault("no positive weight, the least a power of two",
          "cuba.Affine(CUBA, 34, 8, pre_hook_fx=lambda w: (w > 0) * -3.96875 - 0.03125)", (34,),
          "differs", options={"reads": "voltage", "scale": EVENT, "lag": 1}),
    Fault("errors added up in sigma-delta neurons",
          "sigma_delta.Dense(SENDING | {'cum_error': True}, 12, 8, weight_scale=2, "
          "delay_shift=True)", (12,), "differs", changes, _SD),
    Fault("scale of a sigma-delta layer before another",
          "*(sigma_delta.Dense(SENDING | {'scale': 128}, n, 8, weight_scale=2, delay_shift=True) "
          "for n in (12, 8))", (12,), "differs", changes, _SD | {"scale": 2 * EVENT}),
    Fault("spikes into a sigma-delta layer",
          "cuba.Dense(CUBA, 34, 16, weight_scale=3), "
          "sigma_delta.Dense(SENDING, 16, 8, weight_scale=2, delay_shift=True)", (34,), "differs",
          options={"scale": EVENT}),
    Fault("sigma-delta events into a CUBA layer",
          "sigma_delta.Dense(SENDING, 12, 8, weight_scale=2, delay_shift=True), "
          "cuba.Dense(CUBA, 8, 8, weight_scale=2)", (12,), "differs", changes,
          {"unit": EVENT, "bits": 16}),
    Fault("Affine before another layer",
          "cuba.Affine(CUBA, 34, 16, weight_scale=3), cuba.Dense(CUBA, 16, 8, weight_scale=3)",
          (34,), "differs", options={"lag": 1}),
    Fault("Output before another layer",
          "sigma_delta.Output(SENDING, 12, 8, weight_scale=2), "
          "sigma_delta.Dense(SENDING, 8, 8, weight_scale=2, delay_shift=True)", (12,), "differs",
          changes, _SD | {"lag": 1}),
]  # fmt: skip
