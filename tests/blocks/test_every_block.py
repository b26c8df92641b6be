"""Every block of every neuron: what a user does with a block works for all of them alike."""

import copy
import importlib
import pickle

import pytest
import torch
from cells import (
    CELLS,
    FEW,
    KINDS,
    NEURONS,
    OF_LAVA_DL,
    SPIKING,
    STEPS,
    cells_of,
    each_cell,
    events,
    in_turn,
    make,
    same,
)
from known import present
from lapilli.blocks.block import NeuronBlock
from lapilli.blocks.delay import Delay
from tolerances import FUSED_GRADIENT
from torch.testing import assert_close

from lapilli import export


def test_the_table_holds_every_block():
    found = set()
    for family in NEURONS:
        module = importlib.import_module(f"lapilli.blocks.{family}")
        found |= {(family, name) for name in module.__all__ if not name.startswith("Abstract")}
    assert found == set(CELLS)
    assert len(OF_LAVA_DL) == 78


@each_cell
def test_forward(family, kind):
    cell, block = KINDS[kind], make(family, kind)
    y = block(events(kind))
    time = STEPS // 4 if kind == "TimeDecimation" else STEPS
    assert y.shape == (2, *cell.outputs, time)
    assert y.dtype == torch.float32
    assert y.isfinite().all()
    assert 0.01 < (y != 0).float().mean() <= 1
    shape = {"Flatten": (24, 1, 1), "Average": (3, 1, 1)}.get(kind, cell.outputs)
    assert block.shape == shape
    if cell.neuron:
        assert isinstance(block, NeuronBlock)
        assert block.neuron.shape == cell.outputs


@each_cell
def test_backward_gives_every_parameter_a_finite_gradient(family, kind):
    cell = KINDS[kind]
    block = make(family, kind, {"requires_grad": True})
    x = events(kind).requires_grad_()
    y = block(x)
    torch.manual_seed(3)
    y.backward(torch.randn(y.shape))
    assert present(x.grad).isfinite().all()
    assert present(x.grad).any()
    for name, parameter in block.named_parameters():
        if not parameter.requires_grad:
            assert kind in ("Pool", "Unpool"), f"{name} is not learned"
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), name
    if cell.weight:
        learned = dict(block.named_parameters())
        assert any(p.grad.any() for n, p in learned.items() if n.startswith(cell.weight))


class Factor(torch.nn.Module):
    """Norm with a parameter."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.factor


# settings of the neuron, settings of the block, and the kinds that take them
_DELAYED = ("Dense", "Recurrent", "Conv", "ConvT", "Pool", "Unpool")
IDLE = [
    ({"shared_param": False}, {}, [k for k, cell in KINDS.items() if cell.neuron]),
    ({"persistent_state": True}, {}, [k for k, cell in KINDS.items() if cell.neuron]),
    ({"norm": Factor}, {}, [k for k, cell in KINDS.items() if cell.neuron]),
    ({}, {"gradient": "full"}, ["Recurrent", "KWTA"]),
    ({}, {"dynamics": False}, ["Affine"]),
    ({"norm": Factor}, {"dynamics": False}, ["Affine"]),
    ({}, {"weight_norm": True}, ["Affine", "Output", "KWTA", *_DELAYED]),
    ({}, {"delay": True}, _DELAYED),
]


@pytest.mark.parametrize(
    ("neuron", "options", "family", "kind"),
    [
        pytest.param(
            *case, *cell, id="-".join(map(str, (*case, *cell))),
            marks=() if cell in FEW else pytest.mark.slow,
        )
        for *case, kinds in IDLE for cell in CELLS if cell[1] in kinds
    ],
)  # fmt: skip
def test_parameters_without_influence_get_zeros(family, kind, neuron, options):
    """DDP waits for the gradient of every parameter."""
    for steps in (1, STEPS):
        block = make(family, kind, {"requires_grad": True} | neuron, **options)
        y = block(events(kind, steps=steps).requires_grad_())
        y.backward(torch.randn(y.shape))
        without = [n for n, p in block.named_parameters() if p.requires_grad and p.grad is None]
        assert not without


@each_cell
@pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")
def test_a_saved_block_loads_with_the_same_spikes(family, kind, tmp_path):
    block = make(family, kind)
    want = block(events(kind))
    export.save([block], tmp_path / "a.net", target="lapilli")
    loaded = export.load(tmp_path / "a.net")
    assert [type(b) for b in loaded] == [type(block)]
    same(loaded(events(kind)), want)


@in_turn([cell for cell in CELLS if KINDS[cell[1]].weight], FEW)
def test_the_loss_falls_in_five_steps(family, kind):
    block = make(family, kind)
    x = events(kind)
    with torch.no_grad():
        target = make(family, kind)(x) * 0.25  # fewer and smaller than now
    # gradients of spikes differ by orders of magnitude between neurons: Adam does not mind
    optimizer = torch.optim.Adam(block.parameters(), lr=0.03)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = (block(x).mean(-1) - target.mean(-1)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]  # weights are quantised: single steps may go too far


@each_cell
def test_a_state_dict_loads_strictly(family, kind):
    neuron = {"requires_grad": True}
    block = make(family, kind, neuron)
    want = block(events(kind))
    state = copy.deepcopy(block.state_dict())
    other = make(family, kind, neuron)
    for parameter in other.parameters():
        parameter.data.mul_(0.5)
    other.load_state_dict(state, strict=True)
    same(other(events(kind)), want)
    assert other.state_dict().keys() == state.keys()
    for name, value in other.state_dict().items():
        same(value, state[name])


@each_cell
def test_copies_are_equal_and_independent(family, kind):
    block = make(family, kind)
    want = block(events(kind))
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        same(twin(events(kind)), want)
        for one, other in zip(block.parameters(), twin.parameters(), strict=True):
            assert one.data_ptr() != other.data_ptr()
        for module in twin.modules():
            owner = getattr(getattr(module, "pre_hook_fx", None), "__self__", None)
            assert owner is None or owner is twin.neuron, "the hook belongs to another neuron"


@each_cell
def test_types_of_numbers_change_nothing(family, kind):
    block = make(family, kind, {"requires_grad": True})
    want = block(events(kind))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert block.to(dtype) is block
        assert all(p.dtype == torch.float32 for p in block.parameters())
        x = events(kind) if dtype == torch.float64 else events(kind).to(dtype)
        same(block(x).to(torch.float32), want)


@each_cell
def test_devices(family, kind, device):
    twin = make(family, kind, {"requires_grad": True})
    block = make(family, kind, {"requires_grad": True}).to(device)
    want, y = twin(events(kind)), block(events(kind).to(device))
    assert y.device.type == device.type
    same(y.cpu(), want)
    torch.manual_seed(3)
    seeds = torch.randn(want.shape)
    for output in (want, y):
        if output.requires_grad:  # some have nothing to learn
            output.backward(seeds.to(output.device))
    for (name, one), other in zip(twin.named_parameters(), block.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            atol = FUSED_GRADIENT * one.grad.abs().max().item()
            assert_close(other.grad.cpu(), one.grad, rtol=0, atol=atol)
    same(block.to("cpu")(events(kind)), want)


@each_cell
def test_repr_names_sizes(family, kind):
    block = make(family, kind)
    assert repr(block).startswith(kind)
    assert KINDS[kind].says in repr(block)
    if KINDS[kind].neuron:
        block(events(kind))
        assert f"shape={KINDS[kind].outputs}" in repr(block).replace("torch.Size", "")


@each_cell
def test_train_and_eval_agree(family, kind):
    block = make(family, kind)
    trained = block.train()(events(kind))
    assert all(not module.training for module in block.eval().modules())
    same(block(events(kind)), trained)


@each_cell
def test_chunks_equal_one_call(family, kind):
    block, twin = (make(family, kind, {"persistent_state": True}) for _ in range(2))
    x = events(kind)
    with torch.no_grad():
        parts = [block(part) for part in x.split((4, 12, 8), -1)]
        same(torch.cat(parts, -1), twin(x))
        if family in SPIKING and KINDS[kind].neuron:
            assert not torch.equal(twin(x), make(family, kind)(x)), "it starts from rest"


@each_cell
def test_count_log(family, kind):
    block = make(family, kind, count_log=True)
    y, count = block(events(kind))
    same(y, make(family, kind)(events(kind)))
    if KINDS[kind].counts:
        assert count.shape == ()
        assert not count.requires_grad
        same(count, (y != 0).float().mean())
    else:
        assert count is None


@each_cell
def test_the_next_layer_reads_without_a_copy(family, kind):
    y = make(family, kind)(events(kind))
    if kind == "Flatten":  # moves no data: it passes on what it gets
        rows = events(kind).movedim(-1, 1).contiguous().movedim(1, -1)
        y = make(family, kind)(rows)
        assert y.data_ptr() == rows.data_ptr()
    assert y.movedim(-1, 1).is_contiguous()


@cells_of["shift"]
def test_delay_shift_is_one_step(family, kind):
    prompt, late = (make(family, kind, delay_shift=s)(events(kind)) for s in (False, True))
    same(late[..., 1:], prompt[..., :-1])
    assert not late[..., 0].any()
    default = make(family, kind)(events(kind))
    same(default, prompt if family == "sigma_delta" else late)


WRONG = [
    ("Conv", {"kernel_size": 7}, r"kernel spans \(7, 7\).* padded input is \(5, 6\)"),
    ("Pool", {"kernel_size": (2, 13)}, r"kernel spans \(2, 13\)"),
    ("Conv", {"kernel_size": (1, 2, 3, 4)}, r"must be an integer or a pair.*of length 4"),
    ("Pool", {"stride": (1, 2, 3, 4)}, "of length 4"),
    ("Conv", {"padding": (1, 2, 3, 4)}, "of length 4"),
    ("Dense", {"in_neurons": (1, 2, 3, 4)}, r"in_neurons must be.*of length 4"),
    ("Conv", {"groups": 4}, "groups must divide.*groups=4, in_features=2, out_features=3"),
    ("ConvT", {"groups": 2}, "groups must divide.*groups=2, in_features=2, out_features=3"),
    ("Dense", {"mask": torch.ones(6, 5)}, r"mask must be \[out, in\] = \(5, 6\); got.*\(6, 5\)"),
    ("Dense", {"mask": torch.full((5, 6), 0.5)}, "mask must hold 0 and 1 only"),
    ("Dense", {"out_neurons": 0}, "out_neurons must be an integer of at least 1; got 0"),
    ("TimeDecimation", {"factor": 0}, "power of two of at least 1; got factor=0"),
    ("TimeDecimation", {"factor": 3}, "power of two of at least 1; got factor=3"),
    ("Average", {"num_outputs": 4}, "needs a multiple of as many neurons; got 6"),
    ("KWTA", {"num_winners": 6}, "between 1 and out_neurons = 5; got 6"),
    ("Input", {"weight": [1.0, 2.0]}, "weight must be one number; got 2 values"),
]


@pytest.mark.parametrize(("kind", "options", "message"), WRONG)
def test_wrong_arguments_say_what_is_expected(kind, options, message):
    for family in KINDS[kind].families:
        with pytest.raises(ValueError, match=message):
            make(family, kind, **options)(events(kind))


@cells_of["neuron"]
def test_a_delay_that_is_set_must_be_one(family, kind):
    block = make(family, kind)
    for value in (True, 3, "on"):
        with pytest.raises(TypeError, match=r"delay of a block must be .*Delay or None; got"):
            block.delay = value
    block.delay = Delay(max_delay=5)
    block.delay = None
    block(events(kind))


def test_sizes_that_are_set_later_are_checked_and_used():
    for block, name, wrong in (
        (make("cuba", "TimeDecimation"), "factor", 3),
        (make("cuba", "Average"), "num_outputs", 0),
    ):
        before = getattr(block, name)
        with pytest.raises(ValueError, match=name):
            setattr(block, name, wrong)
        assert getattr(block, name) == before
    average = make("cuba", "Average")
    average.num_outputs = 2
    assert average(events("Average")).shape[1] == average.shape[0] == 2


@cells_of["sizes"]
def test_wrong_channels_say_what_is_expected(family, kind):
    cell = KINDS[kind]
    x = torch.zeros(2, cell.channels[0] + 1, *cell.channels[1:], STEPS)
    with pytest.raises(ValueError, match=f"expects {cell.channels[0]} channels; got"):
        make(family, kind)(x)


@each_cell
def test_inputs_that_are_no_series_raise(family, kind):
    with pytest.raises(ValueError, match=r"must be|takes"):
        make(family, kind)(torch.zeros(3, 4))


@cells_of["neuron"]
def test_unknown_arguments_raise(family, kind):
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        make(family, kind, colour="red")
    with pytest.raises(TypeError):
        make(family, kind, {"colour": "red"})
