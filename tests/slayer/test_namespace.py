"""lava-dl's names are where lava-dl has them, and importing them costs nothing."""

import importlib
import os
import pickle
import subprocess
import sys

import pytest
import torch
from known import wrong

import lapilli
from lapilli import slayer

BLOCKS = ("cuba", "rf", "rf_iz", "alif", "adrf", "adrf_iz", "sigma_delta")
SYNAPSES = ("Dense", "Conv", "Pool", "ConvTranspose", "Unpool")
KINDS = ("Input", "Flatten", "Average", "Dense", "Conv", "ConvT", "Pool", "Unpool")
DYNAMICS = {
    "leaky_integrator": ("dynamics", "persistent_state"),
    "resonator": ("dynamics", "persistent_real_state", "persistent_imag_state"),
    "adaptive_threshold": ("dynamics", "persistent_ref_state", "persistent_th_state"),
    "adaptive_phase_th": ("dynamics", "persistent_ref_state", "persistent_th_state"),
    "adaptive_resonator": ("dynamics", "persistent_ref_state", "persistent_th_state"),
}

# module below slayer -> names in it
NAMES = {
    "": ("neuron", "axon", "dendrite", "spike", "synapse", "block", "classifier", "loss", "io",
         "auto", "utils", "jitconfig"),
    "neuron": (*BLOCKS, "norm", "Dropout"),
    **{f"neuron.{m}": ("Neuron", "neuron_params", "SCALE_RHO_MULT", "TAU_RHO_MULT")
       for m in BLOCKS[:-1]},
    "neuron.sigma_delta": ("Neuron", "neuron_params"),
    "neuron.base": ("Neuron",),
    "neuron.norm": ("MeanOnlyBatchNorm", "WgtScaleBatchNorm"),
    "neuron.dropout": ("Dropout",),
    "neuron.dynamics": tuple(DYNAMICS),
    **{f"neuron.dynamics.{m}": names for m, names in DYNAMICS.items()},
    "spike": ("Spike", "complex"),
    "spike.spike": ("Spike",),
    "spike.complex": ("Spike",),
    "synapse": (*SYNAPSES, "complex", "layer"),
    "synapse.layer": (*SYNAPSES, "GenericLayer"),
    "synapse.complex": (*SYNAPSES, "ComplexLayer"),
    "axon": ("delay", "Delay", "Delta"),
    "axon.delay": ("delay", "Delay"),
    "axon.delta": ("Delta",),
    "dendrite": ("Sigma",),
    "dendrite.sigma": ("Sigma",),
    "block": (*BLOCKS, "base"),
    "block.base": ("AbstractInput", "AbstractRecurrent", "AbstractResidual", "step_delay"),
    **{f"block.{m}": (*KINDS, "TimeDecimation", "KWTA", "Recurrent") for m in BLOCKS[:-1]},
    "block.sigma_delta": (*KINDS, "Output", "AbstractSDRelu"),
    "loss": ("SpikeTime", "SpikeRate", "SpikeMax", "SpikeMoid", "SparsityEnforcer"),
    "classifier": ("Rate", "MovingWindow"),
    "io": ("Event", "tensor_to_event", "read_1d_spikes", "read_2d_spikes", "read_np_spikes",
           "encode_1d_spikes", "encode_2d_spikes", "encode_np_spikes"),
    "auto": ("SequentialNetwork", "get_classes", "get_neuron_params"),
    "utils": ("Assistant", "LearningStat", "LearningStats", "filter", "time", "quantize",
              "quantize_hook_fx", "QUANTIZE_MODE", "staticproperty", "dotdict", "diagonal_mask",
              "event_rate", "int_utils", "recurrent", "assistant", "stats", "utils"),
    "utils.assistant": ("Assistant",),
    "utils.stats": ("LearningStat", "LearningStats"),
    "utils.filter": ("conv", "corr", "FIR", "FIRBank", "fir"),
    "utils.filter.conv": ("conv", "corr"),
    "utils.filter.fir": ("FIR", "FIRBank"),
    "utils.time": ("shift", "replicate"),
    "utils.time.shift": ("shift",),
    "utils.time.replicate": ("replicate",),
    "utils.quantize": ("quantize", "quantize_hook_fx", "MODE"),
    "utils.utils": ("staticproperty", "dotdict", "diagonal_mask", "event_rate"),
    "utils.int_utils": ("right_shift_to_zero", "Q2Zero"),
    "utils.recurrent": ("custom_recurrent", "CustomRecurrent", "custom_recurrent_ground_truth_1",
                        "custom_recurrent_ground_truth_2"),
    "jitconfig": ("TORCH_CUDA_ARCH_LIST", "VERBOSE"),
}  # fmt: skip

# a function that hides the module of its name
HIDDEN = ("utils.quantize", "utils.filter.conv", "utils.time.shift", "utils.time.replicate",
          "axon.delay")  # fmt: skip


@pytest.mark.parametrize("module", NAMES)
def test_names_by_import_and_by_attribute(module):
    full = f"lapilli.slayer.{module}".rstrip(".")
    found = importlib.import_module(full)
    by_attribute = slayer
    for part in module.split(".") if module else ():
        by_attribute = getattr(by_attribute, part)
    if module in HIDDEN:
        assert callable(by_attribute)
        assert by_attribute is getattr(found, module.rpartition(".")[2])
    else:
        assert by_attribute is found
    for name in NAMES[module]:
        scope = {}
        exec(f"from {full} import {name}", scope)
        assert scope[name] is getattr(found, name)


@pytest.mark.parametrize("module", HIDDEN)
def test_a_function_stays_in_front_of_its_module(module):
    parent, _, name = module.rpartition(".")
    scope = {}
    exec(f"from lapilli.slayer.{module} import {name}", scope)
    exec(f"import lapilli.slayer.{module} as again", scope)
    function = getattr(importlib.import_module(f"lapilli.slayer.{parent}"), name)
    assert scope["again"] is scope[name] is function
    assert not isinstance(function, type(sys))


def test_star_import():
    scope = {}
    exec("from lapilli.slayer import *", scope)
    wanted = {*NAMES[""]} - {"jitconfig"}
    assert set(scope) - {"__builtins__"} == wanted
    scope = {}
    exec("from lapilli.slayer.utils import *", scope)
    assert {*NAMES["utils"]} <= set(scope)
    assert not isinstance(scope["quantize"], type(sys))


def test_modules_and_classes_are_lapillis_own():
    for family in BLOCKS:
        assert getattr(slayer.block, family) is getattr(lapilli.blocks, family)
        assert getattr(slayer.neuron, family) is getattr(lapilli.neurons, family)
    assert slayer.loss is lapilli.loss
    assert slayer.block.cuba.Dense.__module__ == "lapilli.blocks.cuba"


def test_every_module_is_a_file_that_tools_find():
    """Tools look for a module before they import it, list packages, and reload."""
    python(f"""if True:
        import importlib, pkgutil, sys
        from importlib.util import find_spec
        wanted = {{"lapilli.slayer." + name for name in {sorted(set(NAMES) - {""})}}}
        for name in sorted(wanted):
            assert find_spec(name).origin.endswith(".py"), name
        import lapilli.slayer
        listed = pkgutil.walk_packages(lapilli.slayer.__path__, "lapilli.slayer.")
        listed = {{m.name for m in listed if not m.name.rpartition(".")[2].startswith("_")}}
        assert listed == wanted, listed ^ wanted
        for name in wanted:
            importlib.import_module(name)
        before = {{n: m for n, m in sys.modules.items() if n.startswith("lapilli")}}
        for name in sorted(wanted):
            assert importlib.reload(sys.modules[name]) is before[name]
            assert find_spec(name).origin.endswith(".py"), name
        assert {{n: m for n, m in sys.modules.items() if n.startswith("lapilli")}} == before
    """)


def test_objects_are_pickled_by_the_module_that_defines_them():
    layer = slayer.block.cuba.Flatten()
    for thing in (slayer.block.cuba.Dense, slayer.utils.quantize, slayer.utils.time.shift, layer):
        again = pickle.loads(pickle.dumps(thing))
        assert again is thing or type(again) is type(layer)


def test_object_detection_is_absent_and_says_so():
    with pytest.raises(AttributeError, match="no object detection"):
        _ = wrong(slayer).obd
    with pytest.raises(ImportError):
        importlib.import_module("lapilli.slayer.object_detection")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("lapilli.slayer.utils.nothing")


@pytest.mark.parametrize("module", BLOCKS[:-1])
def test_surrogate_multipliers_are_read_at_call_time(module, monkeypatch):
    params = {"threshold": 0.5, "scale_grad": 1, "tau_grad": 1}
    if module in ("cuba", "alif"):
        params |= {"current_decay": 0.5, "voltage_decay": 0.25}
    else:
        params |= {"period": 8, "decay": 0.1}
    if module in ("alif", "adrf", "adrf_iz"):
        params |= {"threshold_step": 0.25, "threshold_decay": 0.1, "refractory_decay": 0.25}
    home = getattr(slayer.neuron, module)
    neuron = home.Neuron(**params)
    x = torch.linspace(-1, 1, 60).sin().view(1, 3, 20)

    def gradient():
        given = [x.clone().requires_grad_() for _ in range(1 + neuron.complex)]
        neuron(tuple(given) if neuron.complex else given[0]).sum().backward()
        return torch.stack([g.grad for g in given if g.grad is not None])

    before = gradient()
    monkeypatch.setattr(home, "SCALE_RHO_MULT", 2 * home.SCALE_RHO_MULT)
    torch.testing.assert_close(gradient(), 2 * before, rtol=0, atol=0)
    assert before.any()


def python(code, **environment):
    """Run code in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=os.environ | environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_importing_is_light():
    python("""if True:
        import sys, torch
        torch.cuda.init = torch.cuda._lazy_init = None  # whoever calls them fails
        import lapilli.slayer
        from lapilli.slayer import *
        heavy = ("matplotlib", "h5py", "numba", "cv2", "torchvision", "sklearn")
        assert not [m for m in heavy if m in sys.modules]
    """)


@pytest.mark.slow
def test_alias():
    python("""if True:
        import sys
        from lapilli import slayer
        slayer.install_alias()
        slayer.install_alias()
        import lava.lib.dl.slayer as again
        from lava.lib.dl.slayer.block.cuba import Dense
        from lava.lib.dl.slayer.utils.time.shift import shift
        from lava.lib.dl import slayer as once_more
        import lava
        assert lava.lib.dl.slayer is again is once_more is slayer
        assert Dense is slayer.block.cuba.Dense
        try:
            import lava.lib.dl.netx
        except ModuleNotFoundError:
            pass
        else:
            raise AssertionError("netx is not here")
    """)


def test_alias_does_not_hide_a_real_lava(tmp_path):
    (tmp_path / "lava").mkdir()
    (tmp_path / "lava" / "__init__.py").write_text("")
    python("""if True:
        import sys
        from lapilli import slayer
        try:
            slayer.install_alias()
        except RuntimeError as error:
            assert "import lapilli.slayer as slayer" in str(error)
        else:
            raise AssertionError
        assert "lava" not in sys.modules
    """, PYTHONPATH=str(tmp_path))  # fmt: skip


@pytest.mark.slow
def test_jitconfig(tmp_path):
    said = python("""if True:
        import os, warnings
        from lapilli import slayer
        before = dict(os.environ)
        settings = slayer.jitconfig
        assert settings.TORCH_CUDA_ARCH_LIST is None and settings.VERBOSE is False
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            settings.TORCH_CUDA_ARCH_LIST = None
            settings.TORCH_CUDA_ARCH_LIST = "8.0"
            settings.TORCH_CUDA_ARCH_LIST = "9.0"
        (warning,) = caught
        assert warning.category is UserWarning and "ignored" in str(warning.message)
        assert warning.filename == "<string>"
        assert settings.TORCH_CUDA_ARCH_LIST == "9.0"
        settings.VERBOSE = True
        import torch
        neuron = slayer.neuron.cuba.Neuron(1, 0.5, 0.5)
        neuron(torch.ones(1, 1, 1))
        assert dict(os.environ) == before
        settings.VERBOSE = False
    """)
    assert os.environ.get("LAPILLI_BACKEND", "auto") != "auto" or "cuba_fwd" in said
