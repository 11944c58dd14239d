"""lab.deepfloyd on tiny pipelines of diffusers' own classes, with IF's blocks and scheduler, saved and loaded as the real ones are."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DiffusionPipeline, IFPipeline, IFSuperResolutionPipeline, UNet2DConditionModel

from lab import deepfloyd, editing
from lab.deepfloyd import DeepFloyd, WeightsMissing
from lab.permutations import FLIP, IDENTITY

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


def scheduler():
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=True, variance_type="learned_range")


WITHOUT = dict(safety_checker=None, feature_extractor=None, watermarker=None, requires_safety_checker=False)


def stage_I():
    return IFPipeline(tokenizer=None, text_encoder=None, unet=unet(3, 8), scheduler=scheduler(), **WITHOUT)


def stage_II():
    second = unet(6, 16, class_embed_type="timestep")
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
    assert (model.T, model.shape, model.range) == (1000, (3, 8, 8), (-1, 1)) and pipeline.unet.dtype == torch.float32
    steps = list(editing.sample(model, ["a dog", "a waterfall"], guidance=4.0, steps=4, generator=torch.Generator().manual_seed(3)))
    assert [step.t for step in steps] == [1000, 750, 500, 250, 0]
    reference = theirs(pipeline, [999, 749, 499, 249], ["a dog", "a waterfall"], 4.0)
    torch.testing.assert_close(steps[3].x, reference, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(steps[3].x[0], steps[3].x[1], atol=1e-2)


def test_stage_II_steps_as_diffusers_does():
    small = torch.rand(2, 3, 8, 8) * 2 - 1
    model = DeepFloyd(stage_II(), embeddings(), small, generator=torch.Generator().manual_seed(9))
    assert model.shape == (3, 16, 16)
    texts = ["a dog", "a waterfall"]
    steps = list(editing.sample(model, texts, guidance=4.0, steps=4, generator=torch.Generator().manual_seed(3)))
    torch.testing.assert_close(steps[3].x, theirs(stage_II(), [999, 749, 499, 249], texts, 4.0, small), rtol=1e-4, atol=1e-4)


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


def test_half_precision_stays_inside_the_network():
    model = DeepFloyd(stage_I().to(torch.bfloat16), embeddings())
    x = editing.final(editing.sample(model, "a dog", steps=2))
    assert model.unet.dtype == torch.bfloat16 and x.dtype == torch.float32 and x.isfinite().all()
    assert {output.dtype for output in model.predict(x, 500, model.embed("a dog"))} == {torch.float32}  # before guidance takes differences


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

    deepfloyd.save_embeddings(model.embeddings, tmp_path / "texts.safetensors")
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
    for images in (torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.full((1, 3, 8, 8), 255.0), torch.full((1, 3, 8, 8), torch.nan)):
        with pytest.raises(ValueError, match="allowed are finite pixels"):
            DeepFloyd(stage_II(), embeddings(), images)
    with pytest.raises(ValueError, match="noise_level = 1000"):
        DeepFloyd(stage_II(), embeddings(), torch.zeros(1, 3, 8, 8), noise_level=1000)


@pytest.mark.parametrize("download", [False, True])
def test_missing_weights_say_how_to_get_them(download, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    read, asked = DiffusionPipeline.from_pretrained, []
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *names, **how: asked.append(how) or read(*names, **how))
    with pytest.raises(WeightsMissing) as raised:
        deepfloyd.load("DeepFloyd/IF-I-M-v1.0", download=download)
    assert asked[0]["local_files_only"] is not download
    for words in ("DeepFloyd/IF-I-M-v1.0", "accept the licence", "https://huggingface.co/DeepFloyd/IF-I-XL-v1.0", "hf auth login",
                  "huggingface-cli login", "DeepFloyd/IF-II-L-v1.0"):  # fmt: skip
        assert words in str(raised.value)
    with pytest.raises(WeightsMissing, match="save_embeddings"):
        deepfloyd.load_embeddings(tmp_path / "none.safetensors")


def test_importing_it_costs_nothing():
    code = "import sys, lab.deepfloyd; print([name for name in ('diffusers', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
