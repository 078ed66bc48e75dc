"""Every net goes through the same class of tests."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkit.export.onnx_model import export_onnx
from segkit.model_metadata import MASK, PROBABILITY, ModelMetadata
from segkit.models.deployed import DeployedNet
from segkit.models.fcn import FCN8s
from segkit.models.normalise import Normalise
from segkit.models.registry import build

WIDTH = 4
STEPS = 30


class NetTests:
    """What is asked of a net; a subclass names one."""

    name: str
    paper_parameters: float  # at width 64, RGB, two classes
    learning_rate = 1e-2

    def net(self, channels: int = 3, classes: int = 2, width: int = WIDTH) -> nn.Module:
        torch.manual_seed(0)
        return build(self.name, in_channels=channels, classes=classes, width=width)

    def settled(self, channels: int = 3, classes: int = 2) -> DeployedNet:
        """A net whose batch norms have seen noise, and that sees every class in it; in evaluation mode."""
        net = self.net(channels, classes)
        deployed = DeployedNet(net, Normalise([0.5] * channels, [0.3] * channels))
        images = torch.randint(0, 256, (8, 64, 64, channels), dtype=torch.uint8)
        with torch.no_grad():
            for _ in range(20):
                deployed.logits(images)
            last = net.score_fc7 if isinstance(net, FCN8s) else net.score
            last.bias -= deployed.eval().logits(images).mean(dim=(0, 2, 3))  # type: ignore[union-attr, operator]
        return deployed

    @pytest.mark.parametrize(
        ("batch", "channels", "classes", "height", "width"), [(1, 1, 2, 64, 96), (2, 4, 5, 32, 64)]
    )
    def test_logits_have_the_images_size(
        self, batch: int, channels: int, classes: int, height: int, width: int
    ) -> None:
        net = self.net(channels, classes).eval()
        logits = net(torch.randn(batch, channels, height, width))
        assert logits.shape == (batch, classes, height, width)
        assert logits.isfinite().all()

    def test_smallest_size(self) -> None:
        assert self.net().eval()(torch.randn(1, 3, 32, 32)).shape == (1, 2, 32, 32)

    def test_every_parameter_learns(self) -> None:
        net = self.net()
        logits = net(torch.randn(2, 3, 64, 64))
        assert 0.05 < logits.std() < 20  # neither dead nor saturated at the start
        F.cross_entropy(logits, torch.randint(0, 2, (2, 64, 64))).backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        moved = [parameter.grad.abs().sum() > 0 for parameter in net.parameters() if parameter.grad is not None]
        assert all(moved)

    def test_bf16_channels_last_is_near_float32(self) -> None:
        net = self.settled().net
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            exact = net(images)
            net = net.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                rough = net(images.to(memory_format=torch.channels_last))
        assert rough.dtype == torch.bfloat16
        # On noise: rounding moves maxima, and with them what SegNet unpools (0.87 there, 0.999 elsewhere).
        assert torch.corrcoef(torch.stack([exact.flatten(), rough.float().flatten()]))[0, 1] > 0.8

    def test_bf16_channels_last_trains(self) -> None:
        net = self.net().to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last))
        logits.float().square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())

    def test_one_graph_for_the_compiler(self) -> None:
        net = self.settled().net
        torch._dynamo.reset()
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(images), net(images))

    def test_evaluation_does_not_depend_on_the_batch(self) -> None:
        deployed = self.settled()
        images = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
        with torch.no_grad():
            together, alone = deployed.logits(images), deployed.logits(images[1:2])
            torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(deployed.train().logits(images), together, atol=1e-3)

    def test_save_and_load(self, tmp_path: Path) -> None:
        deployed = self.settled()
        torch.save(deployed.net.state_dict(), tmp_path / "net.pt")
        torch.manual_seed(1)
        other = build(self.name, in_channels=3, classes=2, width=WIDTH).eval()
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            assert not torch.equal(other(images), deployed.net(images))
            other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
            assert torch.equal(other(images), deployed.net(images))

    def test_same_seed_same_weights(self) -> None:
        for one, two in zip(self.net().parameters(), self.net().parameters(), strict=True):
            assert torch.equal(one, two)

    def test_parameters_at_the_papers_width(self) -> None:
        with torch.device("meta"):
            net = self.net(width=64)
        assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(self.paper_parameters, rel=0.003)

    def test_learns_to_tell_bright_squares(self) -> None:
        net = self.net()
        optimizer = torch.optim.Adam(net.parameters(), lr=self.learning_rate)
        losses = []
        for _ in range(STEPS):
            images, masks = squares(8)
            loss = F.cross_entropy(net(images), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert sum(losses[-5:]) < 0.6 * sum(losses[:5])

    @pytest.mark.parametrize(("channels", "classes"), [(1, 2), (4, 5)])
    def test_onnx_decides_alike_at_any_size(self, channels: int, classes: int, tmp_path: Path) -> None:
        deployed = self.settled(channels, classes)
        path = tmp_path / "model.onnx"
        export_onnx(deployed, metadata(self.name, channels, classes), path)
        assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]  # the weights are inside
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for shape in [(1, 32, 32), (3, 33, 47), (1, 100, 256), (2, 64, 64)]:
            images = torch.randint(0, 256, (*shape, channels), dtype=torch.uint8)
            with torch.no_grad():
                expected_mask, expected = deployed(images)
            mask, probability = session.run([MASK, PROBABILITY], {"image": images.numpy()})
            assert mask.dtype == "uint8"
            assert mask.shape == shape
            assert probability.shape == (shape[0], classes, *shape[1:])
            torch.testing.assert_close(torch.from_numpy(probability), expected, rtol=1e-3, atol=1e-4)
            assert (torch.from_numpy(mask) == expected_mask).float().mean() > 0.999
            assert len(expected_mask.unique()) > 1  # an all-background mask would prove nothing


class TestUNet(NetTests):
    name = "unet"
    paper_parameters = 31.04  # 31.03 M of the convolutions (known for this layout), 0.01 M of the norms


class TestFCN(NetTests):
    name = "fcn"
    paper_parameters = 134.27  # the paper's table 1: 134 M

    def test_plain_variant_has_no_batch_norm(self) -> None:
        plain = build("fcn-plain", in_channels=3, classes=2, width=WIDTH)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())

    def test_starts_with_bilinear_interpolation(self) -> None:
        """A linear ramp is upsampled to a linear ramp, with the pixel centres where they belong."""
        ramp = torch.arange(6.0).view(1, 1, 1, 6).expand(1, 2, 6, 6)
        large = self.net().up_pool3(ramp)  # type: ignore[operator]
        expected = F.interpolate(ramp, scale_factor=8, mode="bilinear", align_corners=False)
        torch.testing.assert_close(large[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8])


class TestFCNPlain(NetTests):
    name = "fcn-plain"
    paper_parameters = 134.27
    learning_rate = 3e-3


class TestSegNet(NetTests):
    name = "segnet"
    paper_parameters = 29.45  # the paper's table: 29.45 M


def squares(count: int) -> tuple[Tensor, Tensor]:
    """Noise with one brighter square an image, and where it is."""
    masks = torch.zeros(count, 64, 64, dtype=torch.long)
    for mask in masks:
        row, column = torch.randint(0, 40, (2,)).tolist()
        mask[row : row + 24, column : column + 24] = 1
    return torch.randn(count, 3, 64, 64) + 3 * masks[:, None], masks


def metadata(name: str, channels: int, classes: int) -> ModelMetadata:
    return ModelMetadata(
        model=name,
        width=WIDTH,
        classes=tuple(f"class {index}" for index in range(classes)),
        channels=tuple(f"channel {index}" for index in range(channels)),
        size=(64, 64),
        fit="pad",
        mask_values=tuple(range(classes)),
    )
