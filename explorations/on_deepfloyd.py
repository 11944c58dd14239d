"""The notebook's calls of DeepFloyd IF. Without its weights, one line says what is missing."""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import drawings
import editing_on_digits as on
from lab import display, editing
from lab.editing import deepfloyd


class Floyd:
    """Stage I as `model`, or None without its weights. Stage II is loaded when it is first asked for."""

    def __init__(self, stage_I=deepfloyd.STAGE_I, stage_II=deepfloyd.STAGE_II, embeddings=None):
        """embeddings: a file of deepfloyd.save_embeddings; with it the text encoder is not loaded."""
        self.stage_I, self.stage_II, self.second, self.model, self.missing = stage_I, stage_II, None, None, None
        try:
            kept = deepfloyd.load_embeddings(embeddings) if embeddings else None
            self.model = deepfloyd.DeepFloyd(deepfloyd.load(stage_I, text_encoder=kept is None), kept)
        except deepfloyd.WeightsMissing as missing:
            self.missing = missing

    def show(self, loop, title):
        """Show and return the images of loop(model), which are those of its last Step or the tensor itself."""
        if self.model is None:
            return self._say(self.stage_I)
        images = loop(self.model)
        images = images if torch.is_tensor(images) else editing.final(images)
        self._figure(self.model, images, title)
        return images

    def denoised(self, source):
        """The noisy picture and three ways to get rid of the noise, as for the digits: a figure a level, and a table of PSNR."""
        if self.model is None:
            return self._say(self.stage_I)
        images = editing.pixels(self.model, self.picture(source))
        for part in on.NOISE:
            ways = on.denoised(self.model, images, part)
            self._figure(self.model, torch.cat([*ways.values()]), f"t / T = {part}: {', '.join(ways)}")
        print(display.table(on.denoising_table(self.model, images)))

    def two_stages(self, texts, steps=(20, 50, 100)):
        """For each number of steps a figure of stage I and one of stage II, which enlarges it; from the same noise."""
        if self.model is None:
            return self._say(self.stage_I)
        try:
            self.second = self.second or deepfloyd.load(self.stage_II, text_encoder=False)
        except deepfloyd.WeightsMissing as missing:
            self.missing = missing
            return self._say(self.stage_II)
        for number in steps:
            small = self._drawn(self.model, texts, number, "stage I")
            second = deepfloyd.DeepFloyd(self.second, self.model.embeddings, small, generator=on.seeded(1))
            self._drawn(second, texts, number, "stage II")

    def _drawn(self, model, texts, steps, stage):
        images = editing.final(editing.sample(model, texts, steps=steps, generator=on.seeded()))
        self._figure(model, images, f"{stage}, {steps} steps")
        return images

    def picture(self, source):
        """The reader's picture (a path, a URL), or a drawn seven, as stage I takes it: (1, 3, 64, 64)."""
        size = self.model.shape[-1]
        image = drawings.picture(source, size) if source else F.interpolate(drawings.seven(), size).expand(1, 3, size, size)
        return editing.to_model(self.model, image)

    def mask(self):
        """1 in the middle quarter of the picture, which is drawn anew."""
        mask, part = torch.zeros(self.model.shape[1:]), self.model.shape[-1] // 4
        mask[part:-part, part:-part] = 1
        return mask

    def _figure(self, model, images, title):
        display.grid_figure(editing.pixels(model, images), min(len(images), 6), title)
        plt.show()

    def _say(self, name):
        print(f"DeepFloyd IF: the weights of {name} are not here; print(floyd.missing) says how to get them")
