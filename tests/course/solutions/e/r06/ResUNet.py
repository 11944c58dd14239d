"""An MLP-Mixer shaped like a U-Net: patches become tokens, the tokens are mixed, and long skips join early to late layers."""

import torch
from torch import nn


class Mlp(nn.Sequential):
    def __init__(self, width, hidden):
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.05), nn.Linear(hidden, width))


class MixerLayer(nn.Module):
    """Tokens (B, N, F) and a condition (B, E) -> tokens. The condition scales, shifts and gates (additive form)."""

    def __init__(self, tokens, width, embedding):
        super().__init__()
        self.norm_tokens = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_width = nn.LayerNorm(width, elementwise_affine=False)
        self.mix_tokens = Mlp(tokens, 2 * tokens)
        self.mix_width = Mlp(width, 2 * width)
        self.modulation = nn.Linear(embedding, 4 * width)

    def forward(self, h, e):
        scale_1, shift_1, scale_2, shift_2 = self.modulation(e).unsqueeze(1).chunk(4, dim=-1)
        y = self.norm_tokens(h) * (1 + scale_1) + shift_1
        h = h + self.mix_tokens(y.transpose(1, 2)).transpose(1, 2)
        y = self.norm_width(h) * (1 + scale_2) + shift_2
        return h + self.mix_width(y)


class ConditionalUnet(nn.Module):
    PATCH = 4

    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        p = self.PATCH
        self.rows, self.columns = input_dim[0] // p, input_dim[1] // p
        tokens, width = self.rows * self.columns, 2 * n_feat
        self.n_classes = n_classes
        self.patches = nn.Conv2d(in_channels, width, p, p)
        self.place = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.embed_t = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_c = nn.Sequential(nn.Linear(n_classes, width), nn.SiLU(), nn.Linear(width, width))
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU())
        self.encoder = nn.ModuleList([MixerLayer(tokens, width, width) for _ in range(3)])
        self.bottom = MixerLayer(tokens, width, width)
        self.join = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(3)])
        self.decoder = nn.ModuleList([MixerLayer(tokens, width, width) for _ in range(3)])
        self.norm = nn.LayerNorm(width)
        self.to_pixels = nn.Linear(width, in_channels * p * p)
        self.unpatch = nn.PixelShuffle(p)
        self.smooth = nn.Conv2d(2 * in_channels, in_channels, 3, padding=1)

    def forward(self, x, t, c):
        e_t = self.embed_t(t.reshape(-1, 1).to(x.dtype))
        e_c = self.embed_c(c.to(x.dtype))
        e = self.mix(torch.cat([e_t, e_c], dim=1))
        h = self.patches(x).flatten(2).transpose(1, 2) + self.place  # (B, N, F)
        skips = []
        for layer in self.encoder:
            h = layer(h, e)
            skips.append(h)
        h = self.bottom(h, e)
        for join, layer in zip(self.join, self.decoder):
            h = layer(join(torch.cat([h, skips.pop()], dim=-1)), e)
        h = self.to_pixels(self.norm(h)).transpose(1, 2).reshape(len(x), -1, self.rows, self.columns)
        return self.smooth(torch.cat([self.unpatch(h), x], dim=1))
