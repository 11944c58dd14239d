"""On CUDA, what is called over and over as one graph: its kernels are launched at once instead of one by one."""

import warnings

import torch


def captured(function, *inputs):
    """`function` of tensors like `inputs`, as a CUDA graph that each call replays; on other devices, `function` itself.

    What it returns is overwritten by the next call. A function that waits for the device cannot be captured: then a warning says
    so, and it runs as it is.
    """
    if not inputs[0].is_cuda:
        return function
    with torch.cuda.device(inputs[0].device):
        held = [value.clone() for value in inputs]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):  # what is set up at a first call does not belong into the graph
                function(*held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                output = function(*held)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph of the network, so each step launches its kernels one by one: {error}", stacklevel=2)
            return function

    def replay(*values):
        for old, new in zip(held, values, strict=True):
            old.copy_(new)
        graph.replay()
        return output

    return replay
