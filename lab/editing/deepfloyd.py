"""DeepFloyd IF as a Process: stage I draws 64x64 from a text, stage II enlarges that to 256x256. Runs diffusers' pipelines.

diffusers and transformers are imported, and weights read, when `load` is called and not before.
"""

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F

from lab.check import whole
from lab.editing.pixel_models import Pixels

STAGE_I, STAGE_II = "DeepFloyd/IF-I-XL-v1.0", "DeepFloyd/IF-II-L-v1.0"  # smaller: IF-I-L-v1.0, IF-I-M-v1.0 and IF-II-M-v1.0
ENLARGED = 4  # by stage II: 64x64 to 256x256
NOISE_LEVEL = 250  # as in diffusers: time, counted from 0, of the noise on the image that stage II enlarges


class WeightsMissing(Exception):
    """DeepFloyd's weights, or a package that reads them, are not at hand; the message says how to get them."""


class DeepFloyd(Pixels):
    """An IFPipeline or, with `images`, an IFSuperResolutionPipeline. A condition is a text, or several.

    embeddings: {text: (77, D)}, as `save_embeddings` writes them; if "" is among them, the pipeline needs no text encoder.
    images: (B, 3, 64, 64) in [-1, 1], which stage II enlarges: tasks then make exactly B images, and no anagrams.
    """

    def __init__(self, pipeline, embeddings=None, images=None, noise_level=NOISE_LEVEL, generator=None):
        channels, second = pipeline.unet.config.out_channels // 2, pipeline.unet.config.in_channels == pipeline.unet.config.out_channels
        if second != (images is not None):
            raise ValueError("stage II enlarges images: allowed are images with an IFSuperResolutionPipeline, and only with that")
        super().__init__(pipeline, beside=channels if second else 0)
        self.pipeline, self.embeddings = pipeline, dict(embeddings or {})
        self.small = self._enlarged(images, noise_level, generator) if second else None
        self.count = len(images) if second else None
        self.noise_level = noise_level
        self.null_condition = self.embed("")[0]

    def embed(self, condition):
        """Text embeddings (B, 77, D); each text is encoded once."""
        texts = [condition] if isinstance(condition, str) else condition
        if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"condition = {condition!r}; allowed is a text, or several")
        new = [text for text in dict.fromkeys(texts) if text not in self.embeddings]
        if new:
            if self.pipeline.text_encoder is None:
                known = ", ".join(map(repr, self.embeddings)) or "none"
                raise ValueError(f"there is no text encoder and no embedding of {new[0]!r}; allowed are {known}")
            self.embeddings |= encode(self.pipeline, new)
        return torch.stack([self.embeddings[text].to(self.device, self.unet.dtype) for text in texts])

    @torch.no_grad()
    def ask(self, x, t, rows, s):
        x, more = x.to(self.unet.dtype), {}
        if self.small is not None:
            x = torch.cat([x, self.small.repeat(len(x) // len(self.small), 1, 1, 1)], dim=1)  # both halves of guidance see it
            more = {"class_labels": torch.full((len(x),), self.noise_level, device=self.device)}
        return self._parted(self.unet(x, t - 1, encoder_hidden_states=rows, **more).sample.float(), t, s)

    def _enlarged(self, images, noise_level, generator):
        """The small images as stage II was trained to take them: enlarged and noisy."""
        scheduler = self.pipeline.image_noising_scheduler
        whole("noise_level", noise_level, 0, scheduler.config.num_train_timesteps - 1)
        square = images.ndim == 4 and images.shape[1:] == (self.shape[0], *(side // ENLARGED for side in self.shape[1:]))
        if not square or len(images) == 0 or not images.isfinite().all() or images.abs().max() > 1 + 1e-3:
            raise ValueError(f"images have shape {tuple(images.shape)}; allowed are finite pixels (B, 3, 64, 64) from -1 to 1")
        large = F.interpolate(images.detach().to(self.device), self.shape[1:], mode="bilinear", align_corners=True)
        noise = self.noise(len(large), generator)
        return scheduler.add_noise(large, noise, torch.tensor([noise_level] * len(large), device=self.device)).to(self.unet.dtype)


def load(model_id=STAGE_I, text_encoder=True, unet=True, device=None, download=False):
    """The pipeline of a stage: from the folder `model_id`, or from Hugging Face's cache; `download` fetches what is missing.

    text_encoder: False leaves out T5, the largest part; embeddings are then needed. unet: False leaves out the U-Net, to make
    embeddings where both do not fit into memory: save_embeddings(encode(load(unet=False), ["", "a dog"]), "texts.safetensors"). float16 on
    CUDA. The safety checker and the watermark are not loaded: IF's licence asks for them where results are shown in public.
    Raises WeightsMissing.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    left_out = dict.fromkeys(("safety_checker", "feature_extractor", "watermarker"), None)
    if not text_encoder:
        left_out |= {"text_encoder": None, "tokenizer": None}
    if not unet:
        left_out |= {"unet": None}
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    how = {"variant": "fp16", "torch_dtype": dtype, "local_files_only": not download, "requires_safety_checker": False}
    try:
        from diffusers import DiffusionPipeline

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer ones say dtype, older ones know torch_dtype alone
            pipeline = DiffusionPipeline.from_pretrained(model_id, **how, **left_out)
    except (OSError, ImportError, ValueError) as error:  # Hugging Face's errors are subclasses of OSError and ValueError
        raise WeightsMissing(_how_to_get(model_id, error)) from error
    return pipeline.to(device)


def encode(pipeline, texts):
    """{text: (77, D)} by the text encoder of a pipeline, on the CPU. "" is the null condition, which every DeepFloyd needs."""
    rows, _ = pipeline.encode_prompt(texts, do_classifier_free_guidance=False)
    return dict(zip(texts, rows.cpu()))


def save_embeddings(embeddings, path):
    """Write {text: (77, D)} as a safetensors file, in half precision."""
    from safetensors.torch import save_file

    save_file({text: tensor.half().cpu().contiguous() for text, tensor in embeddings.items()}, path)


def load_embeddings(path):
    """What `save_embeddings` wrote. Raises WeightsMissing where the file is not there."""
    from safetensors.torch import load_file

    if not Path(path).exists():
        raise WeightsMissing(f"{path} does not exist; make it with save_embeddings(encode(load(unet=False), texts), path)")
    return load_file(path)


def _how_to_get(model_id, error):
    why = f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
    return (
        f"{model_id} cannot be loaded ({why}). To get it, accept the licence on https://huggingface.co/{STAGE_I} with your account (it "
        "holds for all of IF), log in with `hf auth login` (older: `huggingface-cli login`), install transformers, accelerate and "
        f"sentencepiece, and call load(..., download=True). Model ids: {STAGE_I}, DeepFloyd/IF-I-L-v1.0 or DeepFloyd/IF-I-M-v1.0 for "
        f"stage I, {STAGE_II} or DeepFloyd/IF-II-M-v1.0 for stage II."
    )
