"""Faster inference for the same calls: eval mode, autocast, layers that depend on x alone cached, CUDA graphs."""

import contextlib
import warnings

import torch

from lab.speed.precision import autocast

OFTEN = 8  # calls of one shape before a CUDA graph of them is worth its making


class fast:  # noqa: N801, it is used as a function: with fast(network): …
    """Inside, `network` is in eval mode and under autocast, and what it computes from the very same x is computed once.

    Guidance asks twice about one x, with the condition and without. The parts of the network that have seen nothing but x (the first
    two blocks of the course's, more than a third of its work) are run for the first call and remembered for the second. On CUDA,
    what is called often is replayed as a CUDA graph instead. Outputs come in the dtype of x. May be entered again and again.
    network: any nn.Module whose first argument is x. precision: see lab.speed.precision.choose.
    """

    def __init__(self, network, precision="auto"):
        self.network, self.precision = network, precision
        self.depth, self.undo, self.memory, self.graphs = 0, None, _Memory(), {}

    def __enter__(self):
        self.depth += 1
        if self.depth == 1:
            with contextlib.ExitStack() as stack:
                stack.enter_context(evaluating(self.network))
                for module in self.network.modules():
                    if module is not self.network:
                        stack.enter_context(_with_forward(module, self.memory.remembering(module, module.forward)))
                stack.enter_context(_with_forward(self.network, self._asked(self.network.forward)))
                stack.callback(self.memory.clear)
                self.undo = stack.pop_all()
        return self.network

    def __exit__(self, *error):
        self.depth -= 1
        if self.depth == 0:
            self.undo.close()

    def _asked(self, forward):
        """The network's forward with autocast, and the cache or a graph."""

        def asked(*args, **options):
            given = [*args, *options.values()]
            x = given[0] if given and torch.is_tensor(given[0]) else None
            device, dtype = (x.device, x.dtype) if x is not None else (torch.device("cpu"), None)
            with autocast(device, self.precision):
                if device.type == "cuda" and all(map(torch.is_tensor, given)) and not torch.is_grad_enabled():
                    out = self._replayed(forward, args, options)
                else:
                    with self.memory.about(x):
                        out = forward(*args, **options)
            low = torch.is_tensor(out) and out.dtype in (torch.bfloat16, torch.float16)
            return out.to(dtype) if low and dtype else out

        return asked

    def _replayed(self, forward, args, options):
        """The output of a CUDA graph of this call, made when calls of these shapes have been many."""
        key = tuple((tuple(value.shape), value.dtype, value.device) for value in (*args, *options.values())), tuple(options)
        graph = self.graphs.get(key, 0)
        if isinstance(graph, int):
            self.graphs[key] = graph + 1 if graph < OFTEN else _graph(forward, args, options)
            graph = self.graphs[key]
        return forward(*args, **options) if isinstance(graph, int) else graph(*args, *options.values())


@contextlib.contextmanager
def evaluating(network):
    """The network in eval mode inside, every part of it in its own mode again afterwards, whatever happens."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _with_forward(module, forward):
    """`forward` in the place of the module's own, which is there again afterwards."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


class _Memory:
    """A cache of submodule outputs that depend on the current x alone."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.x, self.known, self.outputs, self.inside = None, {}, {}, False

    @contextlib.contextmanager
    def about(self, x):
        """The cache for calls with this x."""
        if x is None or not _unchanged(self.x, x):
            self.clear()
        if x is not None and not x.is_inference():  # an inference tensor does not tell of a change in place
            self.x = self.x or (x, x._version)
            self.known[id(x)] = self.x
        yield

    def remembering(self, module, forward):
        def remembered(*args, **options):
            given = [*args, *options.values()]
            if self.inside or module.training or not given or not all(self._is_known(value) for value in given):
                return forward(*args, **options)
            key = (id(module), *map(id, given), *options)
            if key in self.outputs and all(_unchanged(each, each[0]) for each in self.outputs[key][1]):
                return self.outputs[key][0]
            self.inside = True  # its own parts need not be remembered too
            try:
                out = forward(*args, **options)
            finally:
                self.inside = False
            if all(self._is_known(value) for value in given):  # not if the module changed its input in place
                parts = [(each, each._version) for each in _tensors(out) if not each.is_inference()]
                self.outputs[key] = out, parts
                self.known.update({id(each[0]): each for each in parts})
            return out

        return remembered

    def _is_known(self, value):
        return torch.is_tensor(value) and id(value) in self.known and _unchanged(self.known[id(value)], value)


def _unchanged(seen, tensor):
    """Whether it is the tensor of seen = (tensor, version), without an in-place write since."""
    return seen is not None and seen[0] is tensor and tensor._version == seen[1]


def _tensors(value):
    """The tensors in an output, which may be one or lists, tuples and dicts of them."""
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)


def _graph(forward, args, options):
    """forward of tensors like these as a CUDA graph, whose kernels are launched at once; `forward` itself where it waits for the device."""
    held = [value.clone() for value in (*args, *options.values())]
    call = lambda: forward(*held[: len(args)], **dict(zip(options, held[len(args) :])))
    plain = lambda *values: forward(*values[: len(args)], **dict(zip(options, values[len(args) :])))
    try:
        with torch.cuda.device(held[0].device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                call()  # what is set up at a first call does not belong into the graph
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                output = call()
    except RuntimeError as error:
        warnings.warn(f"no CUDA graph of the network, so each step launches its kernels one by one: {error}", stacklevel=4)
        return plain
    if not torch.is_tensor(output):
        return plain

    def replay(*values):
        for old, new in zip(held, values, strict=True):
            old.copy_(new)
        graph.replay()
        return output.clone()  # the next call writes over it

    return replay
