"""`dinov2` and `dinov2-l`: vision transformers trained without labels (Oquab et al. 2023, arXiv 2304.07193).

The network is written here from its description; the published files are plain weights, and no code of theirs is run.
Their names: `patch_embed.proj`, `cls_token`, `pos_embed`, `blocks.<i>.{norm1, attn.qkv, attn.proj, ls1, norm2, mlp.fc1,
mlp.fc2, ls2}`, `norm`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaflow.core.features import FeatureExtractor, NetworkExtractor
from adaflow.core.weights import WeightsFile, digest
from adaflow.errors import FileError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

PATCH = 14
TRAINED_GRID = 37
"""Patches along each side for which positions were learned."""
EPS = 1e-6


class Scale(nn.Module):
    """Multiplies each feature by a learned factor (Touvron et al. 2021, arXiv 2103.17239)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] scaled."""
        return x * self.gamma


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, tokens, width] → the same shape."""
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        result: Tensor = self.proj(mixed)
        return result


class Block(nn.Module):
    """Attention, then two layers for each token, both added to what comes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.ls1 = Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls2 = Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, tokens, width] → the same shape."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        result: Tensor = x + self.ls2(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))
        return result


class VisionTransformer(nn.Module):
    """Images to the normalised class token of the last block.

    Args:
        width: features of a token.
        depth: blocks.
        heads: of attention.
    """

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TRAINED_GRID**2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, S, S], S a multiple of 14 → [N, width]."""
        maps = self.patch_embed["proj"](images)
        tokens = maps.flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(images), -1, -1), tokens), 1) + self.positions(maps.shape[-1])
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.norm(x)[:, 0]
        return result

    def positions(self, grid: int) -> Tensor:
        """Learned positions, resampled to another number of patches along each side, [1, 1 + grid², width]."""
        if grid == TRAINED_GRID:
            return self.pos_embed
        learned = self.pos_embed[:, 1:].view(1, TRAINED_GRID, TRAINED_GRID, -1).permute(0, 3, 1, 2)
        # The published network was trained with this tenth of a patch in the scale, though not in the size.
        scale = (grid + 0.1) / TRAINED_GRID
        learned = F.interpolate(learned, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat((self.pos_embed[:, :1], learned.flatten(2).transpose(1, 2)), 1)


class DINOv2(NetworkExtractor):
    """Class token of ViT-B/14, 768 numbers an image: quick enough while training.

    Args:
        device: where it computes.

    Raises:
        FileError: the weights are not here, or other ones.
    """

    name = "dinov2"
    size = 224
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    shape: ClassVar[tuple[int, int, int]] = (768, 12, 12)
    weights: ClassVar[WeightsFile] = WeightsFile(
        "dinov2",
        "dinov2_vitb14_pretrain.pth",
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
        346,
    )

    def load(self) -> nn.Module:
        """The network with the published weights."""
        content = self.weights.read()
        self.version = digest(content)
        network = VisionTransformer(*self.shape)
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            state.pop("mask_token", None)  # needed in training only
            network.load_state_dict(state)
        except Exception as error:
            raise FileError(f"{self.weights.name} does not hold the weights of {self.name}") from error
        return network

    @classmethod
    def check(cls) -> None:
        """See that the weights are here."""
        cls.weights.check()


class DINOv2Large(DINOv2):
    """Class token of ViT-L/14, 1024 numbers an image: for reports."""

    name = "dinov2-l"
    shape = (1024, 24, 16)
    weights = WeightsFile(
        "dinov2-l",
        "dinov2_vitl14_pretrain.pth",
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        1218,
    )


@hookimpl
def register_feature_extractors(register: Register[type[FeatureExtractor]]) -> None:
    """Offer `dinov2` and `dinov2-l`."""
    register("dinov2", DINOv2)
    register("dinov2-l", DINOv2Large)
