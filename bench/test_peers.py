"""``pytest --benchmark --peers``: measure other libraries beside lapilli at the same work."""

import pytest
import torch

from lapilli import slayer
from lapilli.benchmark.counters import OneThread

from . import libraries, peers

ROUNDS, SHORT_ROUNDS = 9, 3


@pytest.mark.parametrize("case", peers.cases(), ids=str)
def test_peers(case, run):
    peer = case.peer
    try:
        library = peer.load()
    except ImportError as error:
        how = f"pip install {peer.install}, or make peers"
        run.absent[peer.name] = f"{peer.name} is absent ({error}); get it with: {how}"
        pytest.skip(run.absent[peer.name])
    with OneThread():
        ours = case.build(libraries.Lapilli(slayer), run.device)
        theirs = case.build(library, run.device)
        assert 0 < ours.activity[-1] < 1, "nothing spikes"
        assert 0 < theirs.activity[-1] < 1, f"nothing spikes in {peer.name}"
        if peer.equal:
            torch.testing.assert_close(ours.output, theirs.output, rtol=0, atol=0)
        rounds = SHORT_ROUNDS if run.short else ROUNDS
        run.peers[str(case)] = {
            "work": case.work,
            "mode": case.mode,
            "library": peer.name,
            "activity": ours.activity,
            "peer_activity": theirs.activity,
            **peers.compare(ours, theirs, run.device, rounds),
        }
