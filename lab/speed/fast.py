"""Faster inference for the same calls: eval mode, autocast, layers that depend on x alone cached, CUDA graphs."""

import contextlib
import warnings

import torch

from lab.speed.precision import autocast

OFTEN = 8  # calls with the same shapes before a CUDA graph of them is made


class fast:  # noqa: N801, it is used as a function: with fast(network): …
    """Inside, `network` is in eval mode and under autocast, and layers that depend on x alone run once for each x.

    Guidance calls the network twice with one x, with the condition and without. The modules whose inputs depend on x alone (the
    first two blocks of the course's, more than a third of its work) run in the first call, and the second reuses their outputs.
    On CUDA, frequent calls are replayed as a CUDA graph instead. Outputs have the dtype of x. May be entered repeatedly, by one
    thread. network: any nn.Module whose first argument is x. precision: see lab.speed.precision.choose.
    """

    def __init__(self, network, precision="auto"):
        self.network, self.precision = network, precision
        self.depth, self.undo, self.memory, self.graphs = 0, None, _Memory(), {}

    def __enter__(self):
        self.depth += 1
        if self.depth == 1:
            self.memory.parameters = list(self.network.parameters())
            with contextlib.ExitStack() as stack:
                stack.enter_context(evaluating(self.network))
                stack.enter_context(_casts_kept())
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
            graph = device.type == "cuda" and all(map(torch.is_tensor, given)) and not torch.is_grad_enabled()
            with autocast(device, self.precision, cache_enabled=not graph):  # a graph must not read weight copies that autocast drops
                if graph:
                    out = self._replayed(forward, args, options)
                else:
                    with self.memory.about(x):
                        out = forward(*args, **options)
            low = torch.is_tensor(out) and out.dtype in (torch.bfloat16, torch.float16)
            return out.to(dtype) if low and dtype else out

        return asked

    def _replayed(self, forward, args, options):
        """The output of this call; after OFTEN calls with the same shapes, from a CUDA graph of it."""
        key = tuple((tuple(value.shape), value.dtype, value.device) for value in (*args, *options.values())), tuple(options)
        graph = self.graphs.get(key, 0)
        if isinstance(graph, int):
            self.graphs[key] = graph + 1 if graph < OFTEN else _graph(forward, args, options)
            graph = self.graphs[key]
        return forward(*args, **options) if isinstance(graph, int) else graph(*args, *options.values())


@contextlib.contextmanager
def evaluating(network):
    """Put the network into eval mode, and restore the mode of each of its modules afterwards, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _casts_kept():
    """Inside, autocast keeps the weights that it has cast from one call to the next, without any autocast in between."""
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


@contextlib.contextmanager
def _with_forward(module, forward):
    """Replace the module's forward by `forward`, and restore it afterwards."""
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
    """A cache of submodule outputs that depend on the current x alone.

    Only outputs of earlier calls with the same x are reused. The first time, a module is run again and compared: if its output
    differs, as it gets the condition in another way or draws random numbers, the module is not cached any more.
    """

    def __init__(self):
        self.parameters, self.proven, self.banned = [], set(), set()
        self.clear()

    def clear(self):
        self.x, self.weights, self.known, self.outputs, self.made, self.inside = None, None, {}, {}, {}, False

    @contextlib.contextmanager
    def about(self, x):
        """The cache for calls with this x."""
        usable = x is not None and not torch.is_grad_enabled() and not x.is_inference()  # inference tensors do not record in-place writes
        weights = sum(weight._version for weight in self.parameters if not weight.is_inference())
        if weights != self.weights:
            torch.clear_autocast_cache()
        if not usable or not _unchanged(self.x, x) or weights != self.weights:
            self.clear()
        if usable:
            self.x, self.weights = self.x or (x, x._version), weights
            self.known[id(x)] = self.x
        yield
        self.outputs |= self.made
        self.made = {}

    def remembering(self, module, forward):
        """The module's forward, which looks into the cache first."""

        def remembered(*args, **options):
            given = [*args, *options.values()]
            if self.inside or module.training or module in self.banned or not given or not all(map(self._is_known, given)):
                return forward(*args, **options)
            key = (module, *map(id, given), *options)
            kept, parts = self.outputs.get(key, (None, ()))
            if parts and all(_unchanged(part, part[0]) for part in parts):
                if module in self.proven:
                    return _copied(kept)
                out = self._run(forward, args, options)
                same = _equal(out, kept)
                (self.proven if same else self.banned).add(module)
                return _copied(kept) if same else out
            out = self._run(forward, args, options)
            parts = [(each, each._version) for each in _tensors(out) if not each.is_inference()]
            if parts and len(parts) == sum(1 for _ in _tensors(out)) and all(map(self._is_known, given)):  # and its input is unchanged
                with contextlib.suppress(TypeError):  # an output of an unknown type
                    self.made[key] = _copied(out), parts
                    self.known |= {id(part[0]): part for part in parts}
            return out

        return remembered

    def _run(self, forward, args, options):
        self.inside = True  # its submodules need not be cached too
        try:
            return forward(*args, **options)
        finally:
            self.inside = False

    def _is_known(self, value):
        return torch.is_tensor(value) and id(value) in self.known and _unchanged(self.known[id(value)], value)


def _unchanged(seen, tensor):
    """Whether `tensor` is that of seen = (tensor, version), without an in-place write since."""
    return seen is not None and seen[0] is tensor and tensor._version == seen[1]


def _tensors(value):
    """The tensors in an output, which may be one or lists, tuples and dicts of them."""
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)


def _copied(value):
    """The same tensors in new containers, as a caller may pop from a list. Raises TypeError for other containers."""
    if torch.is_tensor(value):
        return value
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    if type(value) is dict:
        return {name: _copied(each) for name, each in value.items()}
    raise TypeError(type(value))


def _equal(one, other):
    one, other = list(_tensors(one)), list(_tensors(other))
    return len(one) == len(other) and all(map(torch.equal, one, other))


def _graph(forward, args, options):
    """A function that replays forward of tensors like these as a CUDA graph; just `forward` if it cannot be captured."""
    held = [value.clone() for value in (*args, *options.values())]
    call = lambda: forward(*held[: len(args)], **dict(zip(options, held[len(args) :])))
    plain = lambda *values: forward(*values[: len(args)], **dict(zip(options, values[len(args) :])))
    try:
        with torch.cuda.device(held[0].device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                call()  # what is set up in a first call does not belong in the graph
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
        return output.clone()  # the next replay overwrites it

    return replay
