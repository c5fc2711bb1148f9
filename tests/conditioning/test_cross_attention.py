import math

import pytest
import torch

from ancestral.conditioning import Context, ContextShape
from ancestral.networks import UNet, denoising_network
from ancestral.networks.layers import CrossAttention


def awake(net):
    """The network with nothing left at zero, so that every path counts."""
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return net.eval()


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return awake(CrossAttention(128, 24))


def test_it_agrees_with_diffusers(layer):
    """diffusers' attention block given the same weights, with padding masked."""
    Attention = pytest.importorskip("diffusers.models.attention_processor").Attention
    theirs = Attention(128, cross_attention_dim=24, heads=layer.heads, dim_head=64, bias=True).eval()
    k, v = layer.kv.weight.chunk(2)
    k_bias, v_bias = layer.kv.bias.chunk(2)
    pairs = ((theirs.to_q, layer.q.weight, layer.q.bias), (theirs.to_k, k, k_bias), (theirs.to_v, v, v_bias))
    for to, weight, bias in (*pairs, (theirs.to_out[0], layer.out.weight, layer.out.bias)):
        to.weight.data.copy_(weight)
        to.bias.data.copy_(bias)
    x, tokens = torch.randn(3, 128, 4, 5), torch.randn(3, 7, 24)
    mask = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    with torch.no_grad():
        queries = layer.norm(x).flatten(2).transpose(1, 2)
        bias = torch.where(mask, 0.0, -math.inf)[:, None].repeat_interleave(theirs.heads, 0)
        expected = theirs(queries, encoder_hidden_states=tokens, attention_mask=bias)
        ours = (layer(x, tokens, mask) - x).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_padding_is_ignored_exactly(layer):
    x, tokens = torch.randn(2, 128, 3, 3), torch.randn(2, 6, 24)
    mask = torch.tensor([[True, True, False, False, False, False], [True] * 5 + [False]])
    other = torch.where(mask[..., None], tokens, torch.full_like(tokens, 1e4))
    assert torch.equal(layer(x, tokens, mask), layer(x, other, mask))
    moved = tokens + mask[..., None]
    assert not torch.equal(layer(x, tokens, mask), layer(x, moved, mask))


def test_one_token_is_read_as_it_is(layer):
    """With a single token the weights are 1 whatever the query: out(W_v tau) at every position."""
    x, tokens = torch.randn(1, 128, 2, 2), torch.randn(1, 1, 24)
    expected = layer.out(layer.kv(tokens)[..., 128:])[0, 0]
    torch.testing.assert_close((layer(x, tokens) - x)[0, :, 1, 0], expected, atol=1e-5, rtol=1e-5)


def test_the_order_of_tokens_does_not_matter(layer):
    x, tokens, mask = torch.randn(1, 128, 3, 3), torch.randn(1, 5, 24), torch.tensor([[True, True, True, False, True]])
    order = torch.tensor([4, 2, 3, 0, 1])
    torch.testing.assert_close(layer(x, tokens, mask), layer(x, tokens[:, order], mask[:, order]), atol=1e-5, rtol=1e-5)


def test_the_unet_ignores_padding_and_hears_tokens_and_channels():
    torch.manual_seed(0)
    net = awake(UNet(1, (16, 32), context=ContextShape(tokens=8, channels=3)))
    z, logsnr, tokens = torch.randn(2, 1, 12, 12), torch.zeros(2), torch.randn(2, 4, 8)
    mask, channels = torch.tensor([[True, False, False, False], [True, True, True, False]]), torch.randn(2, 3, 12, 12)
    out = net(z, logsnr, Context(tokens=tokens, mask=mask, channels=channels))
    padded = torch.where(mask[..., None], tokens, torch.ones_like(tokens))
    assert torch.equal(out, net(z, logsnr, Context(tokens=padded, mask=mask, channels=channels)))
    assert not torch.allclose(out, net(z, logsnr, Context(tokens=tokens + 1, mask=mask, channels=channels)))
    assert not torch.allclose(out, net(z, logsnr, Context(tokens=tokens, mask=mask, channels=channels + 1)))


def test_shapes_of_contexts_add_up():
    a, b = ContextShape(vector=8, tokens=4, channels=2), ContextShape(vector=8, channels=5)
    assert ContextShape.merge([a, b]) == ContextShape(8, 4, 7)
    assert ContextShape.merge([]) == ContextShape()
    with pytest.raises(ValueError, match="widths"):
        ContextShape.merge([a, ContextShape(vector=9)])


def test_contexts_of_other_forms_do_not_join():
    tokens = torch.randn(2, 3, 4)
    with pytest.raises(ValueError, match="contexts with mask and without do not join"):
        Context.cat([Context(tokens=tokens), Context(tokens=tokens, mask=torch.ones(2, 3, dtype=torch.bool))])


def test_contexts_with_different_numbers_of_tokens_are_padded():
    mask = torch.tensor([[True, True, False]])
    short, long = torch.randn(2, 1, 4), torch.randn(1, 3, 4)
    both = Context.cat([Context(tokens=short), Context(tokens=long, mask=mask)])
    assert torch.equal(both.tokens, torch.cat([torch.cat([short, torch.zeros(2, 2, 4)], 1), long]))
    assert both.mask.tolist() == [[True, False, False]] * 2 + [[True, True, False]]
    equal = Context.cat([Context(tokens=long), Context(tokens=long)])
    assert equal.mask is None


def test_networks_without_context_have_the_same_parameters():
    plain, told = denoising_network((1, 8, 8)), denoising_network((1, 8, 8), context=ContextShape(tokens=8))
    assert {name for name, _ in plain.named_parameters()} < {name for name, _ in told.named_parameters()}
