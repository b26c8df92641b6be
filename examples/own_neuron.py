"""A neuron of one's own, as fast as the others: leaky integrate-and-fire with a soft reset.

    v[t] = beta w[t-1] + x[t]           voltage, float32
    s[t] = v[t] >= theta                spike
    w[t] = v[t] - theta s[t]            a spike takes the threshold away, and leaves the rest

Backward, with rho the surrogate gradient; the reset is not differentiated:

    g_v[t] = beta g_v[t+1] + rho(v[t] - theta) g_s[t]    = g_x[t]
    g_beta = sum g_v[t+1] w[t]

The kernels below are all that is written for it. On a GPU Triton compiles them; on a CPU lapilli
makes a loop from each, which Numba compiles. Lava's netx knows no such neuron, so that a network of
it cannot be exported.
"""

import torch
from lapilli.kernels.toolkit import (
    derivative,
    from_rows,
    is_learned,
    jit,
    kernel_op,
    lanes,
    load_or_zero,
    load_rows,
    reduce_to,
    store_row,
    surrogate,
    tl,
    to_rows,
    walk_backward,
    walk_forward,
)
from torch import Tensor

from lapilli import slayer


@jit
def lif_step(w, x, beta, theta):
    """Advance one step."""
    v = beta * w + x
    s = v >= theta
    return v, s, tl.where(s, v - theta, v)


@jit
def lif_step_bwd(g_v, g_s, v, beta, theta, height, rate, SHAPE: tl.constexpr):
    """Go back one step."""
    return beta * g_v + surrogate(v - theta, height, rate, False, SHAPE) * g_s


@jit
def _forward_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    w = carry
    beta, theta = fixed
    xs = load_rows(ptrs[0], base, at, C, live, U)
    for i in tl.static_range(U):
        v, s, w = lif_step(w, xs[i], beta, theta)
        store_row(ptrs[1], base, at + i * C, tl.where(s, 1.0, 0.0), live)
        store_row(ptrs[2], base, at + i * C, v, live)
    return w


@jit
def lif_fwd_kernel(
    x_ptr,  # [N, T, C] float32: input
    spike_ptr,  # [N, T, C] float32, out
    saved_ptr,  # [N, T, C] float32, out, or None: voltage before the reset, kept for backward
    beta_ptr,  # [1] or [channels] float32
    per, theta, T, C, M, U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk forward."""
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    beta = load_or_zero(beta_ptr, c // per, live, 0.0)
    walk_forward(
        _forward_rows, tl.zeros([BLOCK], tl.float32), (x_ptr, spike_ptr, saved_ptr), (beta, theta),
        base, at, live, T, C, (), U, STAGES)  # fmt: skip


@jit
def _backward_rows(
    carry, ptrs, fixed, base, at, live, t, C, flags: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    g_v, total = carry
    beta, theta, height, rate = fixed
    SHAPE: tl.constexpr = flags[0]
    gs = load_rows(ptrs[0], base, at, C, live, U)
    vs = load_rows(ptrs[1], base, at, C, live, U)
    for i in tl.static_range(U - 1, -1, -1):
        v = vs[i]
        total += g_v * tl.where(v >= theta, v - theta, v)  # g_v is still that of the step after
        g_v = lif_step_bwd(g_v, gs[i], v, beta, theta, height, rate, SHAPE)
        store_row(ptrs[2], base, at + i * C, g_v, live)
    return g_v, total


@jit
def lif_bwd_kernel(
    g_ptr,  # [N, T, C] float32
    saved_ptr,  # [N, T, C] float32
    gx_ptr,  # [N, T, C] float32, out
    beta_ptr,  # [1] or [channels] float32
    total_ptr,  # [N, C] float32, out, or None: gradient of beta, not reduced
    per, theta, height, rate, T, C, M, SHAPE: tl.constexpr,
    U: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk backward."""
    j, base, at, c = lanes(T, C, BLOCK)
    live = j < M
    beta = load_or_zero(beta_ptr, c // per, live, 0.0)
    rest = tl.zeros([BLOCK], tl.float32)
    _, total = walk_backward(
        _backward_rows, (rest, rest), (g_ptr, saved_ptr, gx_ptr), (beta, theta, height, rate),
        base, at, live, T, C, (SHAPE,), U, STAGES)  # fmt: skip
    store_row(total_ptr, 0, j, total, live)


@kernel_op(
    lif_fwd_kernel,
    samples="x",
    outputs={"spikes": "[N, T, C]", "saved": "[N, T, C] if save"},
    values={"spike": "spikes", "theta": "threshold"},
)
def lif_fwd(x: Tensor, beta: Tensor, threshold: float, width: float, save: bool):
    """Return the spikes, and the voltage where it is to be saved."""


@kernel_op(
    lif_bwd_kernel,
    samples="g saved",
    outputs={"gx": "[N, T, C]", "total": "[N, C] if learned"},
    values={
        "theta": "threshold",
        "height": "0.5 / width",
        "rate": "surrogate_named('exponential').rate(width)",
        "SHAPE": "surrogate_named('exponential').shape",
    },
)
def lif_bwd(
    g: Tensor, saved: Tensor, beta: Tensor, threshold: float, width: float, learned: bool
):  # fmt: skip
    """Return the gradient of the input, and that of beta of each neuron."""


@derivative(lif_fwd, lif_bwd)
def _gradients(back):
    gx, total = back.run(learned=back.wants("beta"))
    return {"x": gx, "beta": reduce_to(back.beta, total)}


class LIF(torch.nn.Module):
    """Leaky integrate-and-fire neurons ``[N, neurons..., T]`` with a decay that is learned."""

    def __init__(self, threshold: float = 1.0, beta: float = 0.9, width: float = 0.5):
        super().__init__()
        self.threshold, self.width = threshold, width
        self.beta = torch.nn.Parameter(torch.tensor([beta]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes."""
        save = is_learned(x, self.beta)
        spikes, _ = lif_fwd(to_rows(x), self.beta, self.threshold, self.width, save)
        return from_rows(spikes, x.shape[1:-1])


def main() -> None:
    """Let a network of it learn to tell a slow rhythm from a quick one."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        slayer.synapse.Dense(8, 32), LIF(), slayer.synapse.Dense(32, 2), LIF()
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for step in range(60):
        target = torch.randint(2, (64,))
        period = torch.where(target == 0, 10, 4)[:, None, None]
        phase = torch.randint(10, (64, 8, 1))
        x = ((torch.arange(60) + phase) % period == 0).float()
        rates = net(x).mean(-1)
        loss = torch.nn.functional.cross_entropy(10 * rates, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            right = (rates.argmax(1) == target).float().mean()
            print(f"step {step + 1}: loss {loss:.3f}, right {right:.0%}")
    print(f"beta: {net[1].beta.item():.3f} and {net[3].beta.item():.3f}")


if __name__ == "__main__":
    main()
