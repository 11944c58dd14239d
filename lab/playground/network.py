"""The denoising network as an ONNX file, compared with the network itself before anything relies on it."""

import copy
import warnings

import torch

from lab.speed.fast import evaluating

PACKAGES = "onnx", "onnxscript", "onnxruntime"  # none of them is in requirements.txt: only this needs them
CLOSE = 1e-4  # the largest difference of an output from torch's


def exported(network, shape, num_classes):
    """The bytes of an ONNX file: x (B, *shape), t (B, 1, 1, 1), c (B, num_classes) -> out (B, *shape), for any B.

    Raises ImportError that says what to install, and ValueError where ONNX Runtime computes something else than torch.
    """
    _required()
    network = copy.deepcopy(network).to("cpu", torch.float32, memory_format=torch.contiguous_format)
    with evaluating(network):  # batch norm by its running statistics
        program = _program(network, _inputs(2, shape, num_classes))
        content = _halved(program.model_proto).SerializeToString()
        _check(content, network, shape, num_classes)
    return content


def _required():
    missing = []
    for name in PACKAGES:
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ImportError(f"the page's network is written with {', '.join(PACKAGES)}; missing: pip install {' '.join(missing)}")


def _inputs(count, shape, num_classes):
    """Inputs for `count` images, which differ in time and condition."""
    draw = torch.Generator().manual_seed(count)
    x = torch.randn(count, *shape, generator=draw)
    return x, (torch.arange(1, count + 1) / count).view(-1, 1, 1, 1), torch.eye(num_classes)[torch.arange(count) % num_classes]


def _program(network, inputs):
    batch = torch.export.Dim("batch", min=1, max=2**16)
    names = "x", "t", "c"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the one name for three inputs' first dimension, which is meant
        return torch.onnx.export(
            network, inputs, dynamo=True, verbose=False, input_names=names, output_names=["out"], dynamic_shapes=[{0: batch}] * len(names)
        )


def _halved(model):
    """The model with weights in half precision where that changes no value, as it changes none of those that ship; half the bytes."""
    import onnx
    from onnx import helper, numpy_helper

    casts, kept = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type == onnx.TensorProto.FLOAT and (values.astype("float16") == values).all():
            kept.append(numpy_helper.from_array(values.astype("float16"), f"{weight.name}.half"))
            casts.append(helper.make_node("Cast", [f"{weight.name}.half"], [weight.name], to=onnx.TensorProto.FLOAT))
        else:
            kept.append(weight)
    nodes = [*casts, *model.graph.node]
    for field, values in ((model.graph.initializer, kept), (model.graph.node, nodes), (model.graph.value_info, [])):
        values = [copy.deepcopy(value) for value in values]
        del field[:]
        field.extend(values)
    onnx.checker.check_model(model, full_check=True)
    return model


def _check(content, network, shape, num_classes):
    """Raise ValueError unless ONNX Runtime gives torch's outputs, also for another number of images than the file was made with."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, 2, 5):
        inputs = _inputs(count, shape, num_classes)
        with torch.no_grad():
            wanted = network(*inputs)
        (out,) = session.run(["out"], {name: value.numpy() for name, value in zip("xtc", inputs)})
        far = (torch.from_numpy(out) - wanted).abs().max().item()
        if not far <= CLOSE:
            raise ValueError(f"the ONNX file gives other outputs than the network, off by {far:.2g} for {count} images; allowed is {CLOSE}")
