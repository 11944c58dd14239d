"""lab.halves: what the network computes from x alone is computed once for both halves of guidance, to the same numbers."""

import torch
from torch import nn

from lab.halves import shared, twice


class Net(nn.Module):
    """Two parts that see x alone, one that sees the condition, and one that meets a tensor changed in place."""

    def __init__(self, careless=False):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.GELU()), nn.Linear(3, 3)
        self.rows, self.careless = {}, careless
        for name, part in (("first", self.first), ("second", self.second), ("inner", self.second[0]), ("last", self.last)):
            part.register_forward_hook(lambda _, inputs, output, name=name: self.rows.update({name: len(inputs[0])}))

    def forward(self, x, c):
        x = self.first(x)
        if self.careless:
            x += c
        return self.last(self.second(x) + c)


def both_ways(net):
    x, c = torch.randn(5, 3), torch.randn(10, 3)
    with torch.no_grad():
        plain = net(torch.cat([x, x]), c)
        with shared(net):
            ours = net(twice(x), c)
        rows = dict(net.rows)
        again = net(twice(x), c)
    return plain, ours, again, rows, dict(net.rows)


def test_the_parts_that_see_x_alone_run_on_one_half():
    plain, ours, again, rows, after = both_ways(Net().eval())
    assert torch.equal(plain, ours) and torch.equal(plain, again)
    assert rows == {"first": 5, "second": 5, "inner": 5, "last": 10}
    assert after == {"first": 10, "second": 10, "inner": 10, "last": 10}  # the hooks are gone


def test_a_change_in_place_ends_it():
    plain, ours, _, rows, _ = both_ways(Net(careless=True).eval())
    assert torch.equal(plain, ours)
    assert rows == {"first": 5, "second": 10, "inner": 10, "last": 10}


def test_inference_tensors_which_tell_of_no_change_run_whole():
    with torch.inference_mode():
        plain, ours, _, rows, _ = both_ways(Net().eval())
    assert torch.equal(plain, ours) and set(rows.values()) == {10}


def test_not_while_the_batch_counts():
    *_, rows, _ = both_ways(Net().train())
    assert set(rows.values()) == {10}


def test_the_course_network():
    from config import DMConfig
    from DDPM import ConditionalDDPM

    net = ConditionalDDPM(DMConfig(num_feat=8)).network.eval()
    rows = {}
    for name, part in net.named_children():
        part.register_forward_hook(lambda _, inputs, output, name=name: rows.update({name: len(inputs[0])}))
    x, t, c = torch.randn(3, 1, 28, 28), torch.rand(6, 1, 1, 1), torch.cat([torch.eye(10)[:3], torch.full((3, 10), -1.0)])
    with torch.no_grad():
        plain = net(torch.cat([x, x]), t, c)
        with shared(net):
            torch.testing.assert_close(net(twice(x), t, c), plain)
    assert rows["init_conv"] == rows["downblock1"] == 3 and rows["downblock2"] == rows["outblock"] == 6
