"""lab.capture: a graph on CUDA gives what the function gives; elsewhere there is nothing to capture."""

import pytest
import torch

from config import DMConfig
from DDPM import ConditionalDDPM
from lab.capture import captured


def test_elsewhere_it_is_the_function_itself():
    assert captured(torch.sin, torch.ones(2)) is torch.sin


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
class TestOnCuda:
    def test_a_replay_gives_what_the_function_gives(self):
        replay = captured(lambda x, y: x * y + 1, *torch.ones(2, 3, device="cuda"))
        for _ in range(3):
            x, y = torch.randn(2, 3, device="cuda")
            assert torch.equal(replay(x, y), x * y + 1)

    def test_what_waits_for_the_device_runs_as_it_is(self):
        def waits(x):
            return x * x.sum().item()

        with pytest.warns(UserWarning, match="one by one"):
            assert captured(waits, torch.ones(3, device="cuda")) is waits
        assert torch.randn(3, device="cuda").isfinite().all()  # and chance works after it

    def test_sample_is_the_same_with_and_without(self, monkeypatch):
        model, labels = ConditionalDDPM(DMConfig(T=20, num_feat=16)).cuda().eval(), torch.arange(10)
        with_graph = model.sample(labels, 2.0, torch.Generator("cuda").manual_seed(0))
        monkeypatch.setattr("DDPM.captured", lambda function, *inputs: function)
        without = model.sample(labels, 2.0, torch.Generator("cuda").manual_seed(0))
        torch.testing.assert_close(with_graph, without, rtol=0, atol=1e-3)
