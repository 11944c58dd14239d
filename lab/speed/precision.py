"""Which floating-point format to compute in on a device."""

import contextlib

import torch


def choose(device, precision="auto"):
    """The dtype to compute in on `device`: the one that `precision` names or, for "auto", the fastest that its hardware supports.

    bfloat16 from compute capability 8.0, on CPUs with AMX and on AMD's with AVX512-BF16, which on Intel's draws slower than
    float32; float16 on older GPUs with tensor cores (a T4 reports bfloat16 as supported, but emulates it); float32 elsewhere.
    """
    if precision != "auto":
        return getattr(torch, precision)
    device = torch.device(device)
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if capability >= (8, 0) else torch.float16 if capability >= (7, 0) else torch.float32
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        amd = has.get("sse4a")  # which no processor of Intel's has
        return torch.bfloat16 if has.get("amx_bf16") or (amd and has.get("avx512_bf16")) else torch.float32
    return torch.float32


def autocast(device, precision="auto", cache_enabled=True):
    """A context in which convolutions and matrix products on `device` run in `choose(device, precision)`."""
    dtype = choose(device, precision)
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype, cache_enabled=cache_enabled)
