"""lab.editing.deepfloyd on tiny pipelines of diffusers' own classes, with IF's blocks and scheduler, saved and loaded as the real ones are."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DiffusionPipeline, IFPipeline, IFSuperResolutionPipeline, UNet2DConditionModel

from lab import editing
from lab.editing import deepfloyd
from lab.editing.deepfloyd import DeepFloyd, WeightsMissing
from lab.editing.views import FLIP, IDENTITY

TEXTS = ("", "a dog", "a waterfall")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def unet(channels, size, **more):
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=size,
        layers_per_block=1,
        block_out_channels=[32, 64],
        down_block_types=["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
        in_channels=channels,
        out_channels=6,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        **more,
    )


def scheduler(**more):
    """IF's; stage I limits x_0 by dynamic thresholding (0.95 and 1.5: deep-floyd/IF, modules/stage_I.py)."""
    how = dict(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=True, variance_type="learned_range")
    return DDPMScheduler(**how, **more)


THRESHOLD = dict(thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.5)


WITHOUT = dict(safety_checker=None, feature_extractor=None, watermarker=None, requires_safety_checker=False)


def stage_I():
    return IFPipeline(tokenizer=None, text_encoder=None, unet=unet(3, 8), scheduler=scheduler(**THRESHOLD), **WITHOUT)


def stage_II():
    second = unet(6, 32, class_embed_type="timestep")
    noising = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    parts = dict(tokenizer=None, text_encoder=None, unet=second, scheduler=scheduler(), image_noising_scheduler=noising)
    return IFSuperResolutionPipeline(**parts, **WITHOUT)


def embeddings():
    draw = torch.Generator().manual_seed(1)
    return {text: torch.randn(77, 32, generator=draw) for text in TEXTS}


def with_text_encoder():
    """Stage I with a T5 of one layer and a tokenizer of letters."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    config = T5Config(vocab_size=140, d_model=32, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    parts = dict(tokenizer=T5Tokenizer(vocab=vocabulary), text_encoder=T5EncoderModel(config).eval())
    return IFPipeline(**parts, unet=unet(3, 8), scheduler=scheduler(), **WITHOUT)


@pytest.fixture
def folder(tmp_path):
    """Stage I on the disk as Hugging Face serves it, in half precision."""
    stage_I().save_pretrained(tmp_path, variant="fp16")
    return tmp_path


def theirs(pipeline, times, texts, guidance, small=None, seed=3):
    """The pipeline's own loop, from noise down to the last of `times`, in diffusers' time."""
    count, draws = len(texts), torch.Generator().manual_seed(seed)
    pipeline.scheduler.set_timesteps(timesteps=times)
    size = pipeline.unet.config.sample_size
    x = torch.randn(count, 3, size, size, generator=draws)
    rows = torch.stack([embeddings()[text] for text in [""] * count + texts])
    more = {}
    if small is not None:
        large = F.interpolate(small, (size, size), mode="bilinear", align_corners=True)
        noise = torch.randn(large.shape, generator=torch.Generator().manual_seed(9))
        large = pipeline.image_noising_scheduler.add_noise(large, noise, torch.tensor([250] * count))
        more = {"class_labels": torch.tensor([250] * 2 * count)}
    for t in pipeline.scheduler.timesteps[:-1]:
        seen = torch.cat([x] * 2) if small is None else torch.cat([torch.cat([x, large], dim=1)] * 2)
        with torch.no_grad():
            output_u, output_c = pipeline.unet(seen, t, encoder_hidden_states=rows, **more).sample.chunk(2)
        eps_u, (eps_c, variance) = output_u[:, :3], output_c.split(3, dim=1)
        output = torch.cat([eps_u + guidance * (eps_c - eps_u), variance], dim=1)
        x = pipeline.scheduler.step(output, t, x, generator=draws).prev_sample
    return x


@pytest.mark.filterwarnings("error::FutureWarning")
def test_stage_I_steps_as_diffusers_does_over_strides_and_with_its_learned_variance(folder):
    pipeline = deepfloyd.load(folder, text_encoder=False, device="cpu")
    model = DeepFloyd(pipeline, embeddings())
    assert model.threshold == (0.95, 1.5)
    assert (model.T, model.shape, model.range) == (1000, (3, 8, 8), (-1, 1)) and pipeline.unet.dtype == torch.float32
    steps = list(editing.sample(model, ["a dog", "a waterfall"], omega=3.0, steps=4, generator=torch.Generator().manual_seed(3)))
    assert [step.t for step in steps] == [1000, 750, 500, 250, 0]
    reference = theirs(pipeline, [999, 749, 499, 249], ["a dog", "a waterfall"], 4.0)
    torch.testing.assert_close(steps[3].x, reference, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(steps[3].x[0], steps[3].x[1], atol=1e-2)


def test_stage_II_steps_as_diffusers_does(tmp_path):
    small = torch.rand(2, 3, 8, 8) * 2 - 1
    stage_II().save_pretrained(tmp_path, variant="fp16")
    pipeline = deepfloyd.load(tmp_path, text_encoder=False, device="cpu")
    assert type(pipeline) is IFSuperResolutionPipeline
    model = DeepFloyd(pipeline, embeddings(), small, generator=torch.Generator().manual_seed(9))
    assert model.shape == (3, 32, 32)
    texts = ["a dog", "a waterfall"]
    steps = list(editing.sample(model, texts, omega=3.0, steps=4, generator=torch.Generator().manual_seed(3)))
    torch.testing.assert_close(steps[3].x, theirs(pipeline, [999, 749, 499, 249], texts, 4.0, small), rtol=1e-4, atol=1e-4)


def test_stage_II_makes_one_image_of_each_small_one():
    """Another number would show each half of guidance another picture."""
    small, texts = torch.rand(2, 3, 8, 8) * 2 - 1, embeddings()
    model = DeepFloyd(stage_II(), texts, small)
    assert editing.final(editing.sample(model, "a dog", steps=2)).shape == (2, 3, 32, 32)
    images = torch.zeros(3, 3, 32, 32)
    for loop in (
        lambda: editing.sample(model, "a dog", 3), lambda: editing.edit(model, images, 1), lambda: editing.denoise(model, images, 1),
        lambda: editing.inpaint(model, images, torch.ones(32, 32)), lambda: editing.hybrid(model, "a dog", "a waterfall", 1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="allowed are 2: one for each"):
            loop()
    with pytest.raises(ValueError, match="3 conditions for 2 images|allowed are 2"):
        editing.sample(model, ["a dog", "a waterfall", ""])
    with pytest.raises(ValueError, match="which no view turns"):
        editing.anagram(model, ("a dog", "a waterfall"), (IDENTITY, FLIP))


def test_every_loop_runs_on_stage_I():
    model = DeepFloyd(stage_I(), embeddings())
    images, mask = torch.rand(2, 3, 8, 8) * 2 - 1, torch.eye(8)
    loops = (
        editing.denoise(model, images, 2, "a dog", steps=4),
        editing.edit(model, images, 2, "a dog", steps=4),
        editing.inpaint(model, images, mask, "a dog", steps=4),
        editing.anagram(model, ("a dog", "a waterfall"), (IDENTITY, FLIP), 2, steps=4),
        editing.hybrid(model, "a dog", "a waterfall", 2, steps=4),
    )
    results = [editing.final(loop) for loop in loops]
    assert all(x.shape == (2, 3, 8, 8) and x.isfinite().all() and x.abs().max() <= 1 for x in results)
    assert results[2].permute(0, 2, 3, 1)[:, mask == 0].equal(images.permute(0, 2, 3, 1)[:, mask == 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_inside_the_network(dtype):
    model = DeepFloyd(stage_I().to(dtype), embeddings())
    x = editing.final(editing.sample(model, "a dog", steps=2))
    assert model.unet.dtype == dtype and x.dtype == torch.float32 and x.isfinite().all()
    assert {output.dtype for output in model.ask(x, 500, model.embed("a dog"), 499)} == {torch.float32}  # before guidance takes differences


def test_texts_are_encoded_once_kept_and_read_back(tmp_path):
    with_text_encoder().save_pretrained(tmp_path / "whole", variant="fp16")
    pipeline = deepfloyd.load(tmp_path / "whole", device="cpu")
    model, encoded = DeepFloyd(pipeline), []
    pipeline.text_encoder.register_forward_hook(lambda module, inputs, output: encoded.append(len(output[0])))
    rows = model.embed(["a dog", "a cat", "a dog"])
    assert rows.shape == (3, 77, 32) and rows[0].equal(rows[2]) and not rows[0].equal(rows[1])
    assert model.embed("a cat").equal(rows[1:2]) and encoded == [2]
    expected, _ = pipeline.encode_prompt("a cat", do_classifier_free_guidance=False)
    torch.testing.assert_close(rows[1:2], expected)

    encoder = deepfloyd.load(tmp_path / "whole", unet=False, device="cpu")
    assert encoder.unet is None
    deepfloyd.save_embeddings(deepfloyd.encode(encoder, ["", "a dog", "a cat"]), tmp_path / "texts.safetensors")
    again = deepfloyd.load_embeddings(tmp_path / "texts.safetensors")
    assert set(again) == {"", "a dog", "a cat"}
    alone = DeepFloyd(deepfloyd.load(tmp_path / "whole", text_encoder=False, device="cpu"), again)
    assert alone.pipeline.text_encoder is None
    torch.testing.assert_close(alone.embed("a cat"), rows[1:2], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(alone.null_condition, model.null_condition, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_asked_of_it():
    model = DeepFloyd(stage_I(), embeddings())
    for condition in ("a cat", ["a dog", "a cat"]):
        with pytest.raises(ValueError, match="no embedding of 'a cat'; allowed are '', 'a dog', 'a waterfall'"):
            editing.sample(model, condition)
    for condition in (7, [], [1]):
        with pytest.raises(ValueError, match="allowed is a text"):
            editing.sample(model, condition)
    with pytest.raises(ValueError, match="no embedding of ''"):
        DeepFloyd(stage_I(), {"a dog": torch.zeros(77, 32)})
    for pipeline, images in ((stage_I(), torch.zeros(1, 3, 8, 8)), (stage_II(), None)):
        with pytest.raises(ValueError, match="stage II enlarges images"):
            DeepFloyd(pipeline, embeddings(), images)
    for images in (
        torch.zeros(3, 8, 8),
        torch.zeros(1, 1, 8, 8),
        torch.zeros(1, 3, 9, 9),
        torch.zeros(0, 3, 8, 8),
        torch.full((1, 3, 8, 8), 255.0),
        torch.full((1, 3, 8, 8), torch.nan),
    ):
        with pytest.raises(ValueError, match="allowed are finite pixels"):
            DeepFloyd(stage_II(), embeddings(), images)
    for level in (1000, 0.5):
        with pytest.raises(ValueError, match=f"noise_level = {level}"):
            DeepFloyd(stage_II(), embeddings(), torch.zeros(1, 3, 8, 8), noise_level=level)


@pytest.mark.parametrize("download", [False, True])
def test_missing_weights_say_how_to_get_them(download, tmp_path, monkeypatch):
    """Asked to look here alone, diffusers itself fails; asked to download, it is stopped before it does."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    read, asked = DiffusionPipeline.from_pretrained, []

    def without_network(*names, **how):
        asked.append(how)
        return read(*names, **{**how, "local_files_only": True})

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", without_network)
    with pytest.raises(WeightsMissing) as raised:
        deepfloyd.load("DeepFloyd/IF-I-M-v1.0", download=download)
    assert asked[0]["local_files_only"] is not download
    for words in ("DeepFloyd/IF-I-M-v1.0", "accept the licence", "https://huggingface.co/DeepFloyd/IF-I-XL-v1.0", "hf auth login",
                  "huggingface-cli login", "DeepFloyd/IF-II-L-v1.0"):  # fmt: skip
        assert words in str(raised.value)
    with pytest.raises(WeightsMissing, match="save_embeddings"):
        deepfloyd.load_embeddings(tmp_path / "none.safetensors")


@pytest.mark.slow
def test_every_call_of_the_notebook_runs_on_it(monkeypatch, capsys):
    """With the text encoder, as where the weights are at hand; stage II enlarges 8 pixels to 32."""
    import on_deepfloyd

    pipelines = {deepfloyd.STAGE_I: with_text_encoder, deepfloyd.STAGE_II: stage_II}
    monkeypatch.setattr(deepfloyd, "load", lambda name, text_encoder: pipelines[name]())
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    notebook = json.loads((Path(on_deepfloyd.__file__).parent / "power_of_diffusion.ipynb").read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (constants,) = [cell for cell in cells if "Floyd(" in cell]
    names = {"Floyd": on_deepfloyd.Floyd, "torch": torch, "editing": editing, "IDENTITY": IDENTITY, "FLIP": FLIP, "starts": (3, 18)}
    exec(constants, names)
    shown = []
    monkeypatch.setattr(names["floyd"], "_figure", lambda model, images, title: shown.append((title, images.shape)))
    calls = [cell for cell in cells if "floyd." in cell and cell != constants]
    for cell in calls:
        exec(cell, names)
    assert len(calls) == 7 and len(shown) == 3 + 5 + 6
    assert all(shape[1:] == ((3, 32, 32) if title.startswith("stage II,") else (3, 8, 8)) for title, shape in shown)
    assert "| 0.75 |" in capsys.readouterr().out and names["floyd"].missing is None


def test_importing_it_costs_nothing():
    code = "import sys, lab.editing.deepfloyd; print([name for name in ('diffusers', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
