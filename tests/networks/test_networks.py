"""Networks: shapes of any size, symmetries, and agreement with plain formulas."""

import pytest
import torch
from torch.nn import functional as F

from ancestral.conditioning import Context, ContextShape
from ancestral.networks import MLP, UNet, denoising_network
from ancestral.networks.layers import Attention, ChannelNorm, NoiseEmbedding


def wake(net):
    """Random values in place of the zeros that residual branches begin with."""
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return net


def test_a_transformer_takes_the_given_patch_size():
    assert denoising_network((1, 28, 28), net="dit", width=16, blocks=1).patch == (4, 4)
    assert denoising_network((1, 28, 28), net="dit", width=16, blocks=1, patch=2).patch == (2, 2)


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (1, 28, 28), (3, 13, 9), (3, 64, 64), (1, 1, 1), (4, 33, 100), (2, 37), (1, 40), (5,)], ids=str
)
def test_any_shape(shape):
    net = wake(denoising_network(shape, width=16, blocks=1))
    out = net(torch.randn(2, *shape), torch.tensor([-3.0, 4.0]), Context())
    assert out.shape == (2, *shape)
    assert out.isfinite().all()
    assert not torch.allclose(out[0], out[1])


@pytest.mark.parametrize("shape", [(1, 12, 12), (2, 20), (6,)], ids=str)
def test_an_untrained_network_predicts_nothing(shape):
    """Output and residual branches begin at zero, so training starts from F = 0."""
    net = denoising_network(shape)
    assert (net(torch.randn(3, *shape), torch.zeros(3), Context()) == 0).all()


def test_samples_do_not_see_each_other():
    net = wake(UNet(1, (16, 32), blocks=1))
    z, logsnr = torch.randn(5, 1, 16, 16), torch.linspace(-5, 5, 5)
    together = net(z, logsnr, Context())
    torch.testing.assert_close(net(z[2:3], logsnr[2:3], Context()), together[2:3], atol=1e-5, rtol=1e-4)


def test_memory_layout_changes_nothing():
    net, z = wake(UNet(2, (16, 32), blocks=1)), torch.randn(2, 2, 10, 14)
    plain = net(z, torch.zeros(2), Context())
    fast = net.to(memory_format=torch.channels_last)(z.to(memory_format=torch.channels_last), torch.zeros(2), Context())
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)


def test_fold_and_unfold_are_inverse():
    net = UNet(3, (8, 8), patch=2)
    z = torch.randn(2, 3, 13, 9)
    torch.testing.assert_close(net._unfold(net._fold(z), z.shape[-2:]), z)
    square = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(net._fold(square), F.pixel_unshuffle(square, 2))


def test_context_matters_where_there_is_one():
    for net in (wake(UNet(1, (8, 16), blocks=1, context=ContextShape(4))), wake(MLP(3, context=ContextShape(4)))):
        z = torch.randn(2, 1, 8, 8) if isinstance(net, UNet) else torch.randn(2, 3)
        a = net(z, torch.zeros(2), Context(vector=torch.zeros(2, 4)))
        b = net(z, torch.zeros(2), Context(vector=torch.ones(2, 4)))
        assert not torch.allclose(a, b)


def test_attention_is_the_fused_kernels_formula():
    attention = wake(Attention(128))
    x = torch.randn(2, 128, 3, 5)
    tokens = attention.norm(x).flatten(2).transpose(1, 2)
    q, k, v = (part.unflatten(-1, (2, 64)).transpose(1, 2) for part in attention.qkv(tokens).chunk(3, -1))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    expected = x + attention.out(mixed).transpose(1, 2).unflatten(2, (3, 5))
    torch.testing.assert_close(attention(x), expected, atol=1e-4, rtol=1e-4)


def test_channel_norm():
    norm, x = ChannelNorm(6), 3 * torch.randn(2, 6, 4, 4) + 1
    y = norm(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 4, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(2, 4, 4), atol=1e-3, rtol=0)


def test_noise_embedding_tells_levels_apart():
    net = wake(NoiseEmbedding(8))
    out = net(torch.tensor([-20.0, -19.9, 0.0, 0.1, 20.0]))
    distances = torch.cdist(out, out) + torch.eye(5) * 1e9
    assert distances.min() > 1e-3


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((1, 8, 8), (64, 128)),
        ((8, 7, 7), (64, 128)),
        ((16, 8, 8), (128,)),
        ((3, 64, 64), (64, 128)),
        ((3, 128, 128), (64, 128, 256)),
    ],
    ids=str,
)
def test_levels_follow_from_the_shape(shape, channels):
    """Small maps keep their resolution where each position has much to tell."""
    net = denoising_network(shape)
    assert [level[0].conv2.out_channels for level in net.down if isinstance(level, torch.nn.ModuleList)] == list(channels)
