"""The messages between the grader and a submission: frames of JSON and plain arrays, of limited size, never pickle."""

import json
import math
import socket
import struct
import time

import torch
from safetensors.torch import load, save

JSON_LIMIT, ARRAY_LIMIT, TOTAL_LIMIT = 2**20, 2**27, 2**28  # bytes: of a frame's text, of its arrays, received in all
TEXT_LIMIT = 4000  # characters a string
ENDED = "Your code ended the process in which it was run, by os._exit, a signal or a crash."
SLOW = "Your code takes too long: it was stopped. Is there a loop that does not end?"
GARBLED = "Your code wrote something of its own to the grader's channel."
BUILTIN = {e.__name__: e for e in (NotImplementedError, IndexError, ValueError, RuntimeError, TypeError, KeyError, AttributeError,
                                   AssertionError, NameError, ZeroDivisionError, UnboundLocalError, MemoryError)}  # fmt: skip


class Lost(Exception):
    """The other side has ended, takes too long, or sent something that is no frame; the message is for the student, see checks.student."""

    where, final = "", True


class StudentError(Exception):
    """An error of a type that the grader does not know; each is raised as a subclass with that type's name."""


class Link:
    """One end of a socket on which whole frames go both ways.

    until: the time by the clock `now` at which Lost is raised, or None. quiet: the longest wait for a frame, in seconds, or None.
    why: a function that says why the other side has ended, or "".
    """

    def __init__(self, sock, until=None, why=str, now=time.monotonic, quiet=None):
        self.socket, self.until, self.why, self.now, self.quiet, self.received = sock, until, why, now, quiet, 0

    def send(self, **fields):
        arrays = []
        text = json.dumps({name: pack(value, arrays) for name, value in fields.items()}).encode()
        content = save({str(i): array for i, array in enumerate(arrays)}) if arrays else b""
        rest = memoryview(struct.pack("<QQ", len(text), len(content)) + text + content)
        self.by = math.inf if self.until is None else self.until
        while rest:
            rest = rest[self._timed(self.socket.send, rest) :]

    def receive(self):
        """The fields of the next frame. Raises Lost."""
        self.by = min(end for end in (self.until, self.quiet and self.now() + self.quiet, math.inf) if end is not None)
        sizes = struct.unpack("<QQ", self._exactly(16))
        self.received += sum(sizes)
        if sizes[0] > JSON_LIMIT or sizes[1] > ARRAY_LIMIT or self.received > TOTAL_LIMIT:
            raise Lost("Your code returns more than can be looked at, or writes to the grader's channel.")
        text, content = map(self._exactly, sizes)
        try:
            arrays = load(bytes(content)) if content else {}
            if any(size > ARRAY_LIMIT for array in arrays.values() for size in array.shape):  # an empty array may declare a huge one
                raise ValueError("a dimension of more than the bytes of all arrays")
            return {name: unpack(value, arrays) for name, value in json.loads(text).items()}
        except Exception as error:  # whatever is wrong with a frame, it is not an answer
            raise Lost(GARBLED) from error

    def _exactly(self, size):
        content = bytearray()
        while len(content) < size:
            part = self._timed(self.socket.recv, min(size - len(content), 2**20))
            if not part:
                raise Lost(self.why() or ENDED)
            content += part
        return content

    def _timed(self, act, argument):
        while (left := self.by - self.now()) > 0:
            try:
                self.socket.settimeout(None if left == math.inf else left)
                return act(argument)
            except TimeoutError:  # of wall time; `now` may lag behind it
                continue
            except OSError:
                raise Lost(self.why() or ENDED) from None
        raise Lost(SLOW)

    def close(self):
        self.socket.close()


def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def pack(value, arrays):
    """A value in JSON's types. Tensors go to `arrays`; of what is neither plain nor a tensor only the type's name is kept."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        if plain.layout != torch.strided or plain.is_complex() or plain.is_quantized:
            return {"other": f"{plain.dtype} {plain.layout}"}
        arrays.append(plain)
        return {"tensor": len(arrays) - 1, "grows": value.requires_grad}
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else {"other": "int"}
    if isinstance(value, str):
        return value[:TEXT_LIMIT]
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [pack(each, arrays) for each in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: pack(each, arrays) for key, each in value.items()}}
    return {"other": type(value).__name__[:100]}


def unpack(value, arrays):
    """The value that `pack` packed. Each array may be used once, so a small frame cannot grow."""
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = ((k, v) for k, v in value.items() if k != "grows")
    if kind == "tensor":
        tensor = arrays.pop(str(inner))
        return tensor.requires_grad_(bool(value["grows"])) if tensor.is_floating_point() else tensor
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](unpack(each, arrays) for each in inner)
    if kind == "dict":
        return {key: unpack(each, arrays) for key, each in inner.items()}
    return type(str(inner), (), {})()  # a placeholder that has only the type's name


def error_fields(error, where=""):
    """An error as plain text, to be raised again on the other side by `raised`."""
    return {"type": type(error).__name__, "message": str(error), "where": where}


def raised(fields):
    """The error that error_fields described: of the same type if that is in BUILTIN, with its `where`."""
    name, message = str(fields["type"]), str(fields["message"])
    kind = BUILTIN.get(name) or type(name[:100] if name.isidentifier() else "Error", (StudentError,), {})
    error = kind(message)
    error.where = str(fields["where"])
    return error
