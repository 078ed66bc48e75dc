"""Encoder weights from files with torchvision's names and shapes, against VGG16 written out here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segkit.errors import ConfigError, FileError
from segkit.models.blocks import conv_block, vgg16_stages
from segkit.models.encoder_weights import load_encoder
from segkit.models.fcn import FCN8s
from segkit.models.segnet import SegNet
from segkit.models.unet import UNet

LAYOUT = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]


class VGG(nn.Module):
    """torchvision's `vgg16` or `vgg16_bn` up to the names of its parameters; `classifier` is left out."""

    def __init__(self, *, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for entry in LAYOUT:
            if entry == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            outputs = int(entry)
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1)]
            layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
            layers += [nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.running_mean, std=0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
                nn.init.normal_(layer.weight, 1.0, 0.1)
                nn.init.normal_(layer.bias, std=0.1)


def features(net: FCN8s | SegNet, image: Tensor) -> Tensor:
    for stage in net.encoder:
        image = nn.functional.max_pool2d(stage(image), 2)
    return image


@pytest.fixture(scope="module")
def vgg_bn(tmp_path_factory: pytest.TempPathFactory) -> tuple[VGG, Path]:
    torch.manual_seed(0)
    vgg = VGG(batch_norm=True).eval()
    path = tmp_path_factory.mktemp("weights") / "vgg16_bn.pth"
    torch.save(vgg.state_dict(), path)
    return vgg, path


@torch.no_grad()
def test_the_encoder_computes_what_vgg16_does(vgg_bn: tuple[VGG, Path]) -> None:
    vgg, path = vgg_bn
    assert "features.40.weight" in torch.load(path, weights_only=True)  # torchvision's last convolution
    net = SegNet(3, 2).eval()
    said = load_encoder(net, path)
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(features(net, image), vgg.features(image), rtol=1e-3, atol=1e-5)
    assert "13 convolutions" in said
    assert "averaged" not in said


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 4])
def test_a_grey_image_gives_what_it_gave_as_rgb(channels: int, vgg_bn: tuple[VGG, Path]) -> None:
    vgg, path = vgg_bn
    net = SegNet(channels, 2).eval()
    assert f"onto {channels} channels" in load_encoder(net, path)
    grey = torch.randn(1, 1, 64, 64)
    expected = vgg.features(grey.expand(1, 3, 64, 64))
    torch.testing.assert_close(features(net, grey.expand(1, channels, 64, 64)), expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("batch_norm", [False, True])
def test_fcn_takes_the_fully_connected_layers_too(batch_norm: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vgg = VGG(batch_norm=batch_norm).eval()
    fc6, fc7 = nn.Linear(512 * 49, 8), nn.Linear(8, 8)
    linear = {"0.weight": fc6.weight, "0.bias": fc6.bias, "3.weight": fc7.weight, "3.bias": fc7.bias}
    classifier = {f"classifier.{key}": value.detach() for key, value in linear.items()}
    torch.save({**vgg.state_dict(), **classifier}, tmp_path / "vgg.pth")
    net = fcn_of_few_fc_channels(batch_norm)
    assert "fully connected" in load_encoder(net, tmp_path / "vgg.pth")
    image = torch.randn(1, 3, 224, 224)
    expected = fc7(fc6(vgg.features(image).flatten(1)).relu()).relu()
    found = net.fc7(net.fc6(features(net, image)))
    assert found.shape == (1, 8, 7, 7)
    # In the middle of 7 x 7, fc6 sees without padding what the fully connected layer saw.
    torch.testing.assert_close(found[:, :, 3, 3], expected, rtol=1e-3, atol=1e-4)


def test_fcn_without_a_classifier_in_the_file(vgg_bn: tuple[VGG, Path]) -> None:
    net = fcn_of_few_fc_channels(batch_norm=True)
    before = net.fc6[0].weight.clone()
    assert "fully connected" not in load_encoder(net, vgg_bn[1])
    assert torch.equal(net.fc6[0].weight, before)


def test_refuses_another_net_or_width(vgg_bn: tuple[VGG, Path]) -> None:
    with pytest.raises(ConfigError, match="fcn, fcn-plain or segnet"):
        load_encoder(UNet(3, 2, 4), vgg_bn[1])
    with pytest.raises(ConfigError, match="width = 8: allowed is 64"):
        load_encoder(SegNet(3, 2, 8), vgg_bn[1])


def test_refuses_a_file_that_does_not_fit(vgg_bn: tuple[VGG, Path], tmp_path: Path) -> None:
    weights = vgg_bn[0].state_dict()
    plain = VGG(batch_norm=False).state_dict()
    cases = {
        "text": (b"hello", "no file of tensors"),
        "empty": (b"", "no file of tensors"),
        "half": (vgg_bn[1].read_bytes()[:100_000], "no file of tensors"),
        "list": ([1, 2], "not a state_dict"),
        "module": (nn.Conv2d(1, 1, 1), "no file of tensors"),  # a pickled object is not unpickled
        "plain": (plain, "has no batch norm"),
        "other": ({"layer1.weight": torch.zeros(3)}, "13 convolutions"),
        "shape": ({**weights, "features.0.weight": torch.zeros(64, 1, 3, 3)}, "13 convolutions"),
        "lacks": (
            {key: value for key, value in weights.items() if key != "features.1.running_var"},
            "lacks features.1.run",
        ),
        "vector": ({**weights, "features.3.bias": torch.zeros(3)}, "features.3.bias in shape"),
    }
    net = SegNet(3, 2)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for name, (content, reason) in cases.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(FileError, match=reason) as caught:
            load_encoder(net, path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileError, match="does not exist"):
        load_encoder(net, tmp_path / "absent.pth")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def fcn_of_few_fc_channels(batch_norm: bool) -> FCN8s:
    """The paper's encoder with 8 channels in fc6 and fc7, where the paper's 4096 take 0.5 GB."""
    net = FCN8s(3, 2, 1, batch_norm=batch_norm)
    net.encoder = vgg16_stages(3, 64, batch_norm=batch_norm)
    net.fc6 = nn.Sequential(*conv_block(512, 8, kernel=7, batch_norm=batch_norm))
    net.fc7 = nn.Sequential(*conv_block(8, 8, kernel=1, batch_norm=batch_norm))
    return net.eval()
