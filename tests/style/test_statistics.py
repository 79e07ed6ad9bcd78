"""Tests of feature statistics: known answers, definitions, and equivalent forms."""

import pytest
import torch
from torch import Tensor

from impasto.models.moments import (
    at_least_float32,
    covariance,
    gram_matrix,
    matrix_sqrt,
    pack,
    raw_moments,
    unpack,
)
from impasto.models.vgg import VGG, VGGConfig
from impasto.style.losses import head_metric

# Two channels of 2x2 pixels: F = [[1, 2, 3, 4], [0, 1, 0, -1]].
F_2X2 = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, -1.0]]]])
GRAM_2X2 = torch.tensor([[[30.0, -2.0], [-2.0, 2.0]]])  # F F^T, by hand


def features(n: int = 2, c: int = 5, h: int = 6, w: int = 7) -> Tensor:
    return torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(0)) + 0.3


def test_gram_matrix_by_hand() -> None:
    assert torch.equal(gram_matrix(F_2X2, normalise=False), GRAM_2X2)
    assert torch.equal(gram_matrix(F_2X2), GRAM_2X2 / 4)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 48)])
def test_gram_matrix_of_a_constant_picture(size: tuple[int, int]) -> None:
    """Every pixel is the vector v, so the Gram matrix per pixel is v v^T at any size."""
    v = torch.tensor([0.5, -2.0, 3.0])
    found = gram_matrix(v[None, :, None, None].expand(1, 3, *size))
    assert torch.allclose(found, torch.outer(v, v)[None], rtol=1e-5)


def test_gram_matrix_does_not_see_where_things_are() -> None:
    f = features()
    order = torch.randperm(42, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(gram_matrix(f), gram_matrix(f.flatten(2)[:, :, order].view_as(f)), atol=1e-5)


def test_raw_moments_by_hand() -> None:
    expected = torch.tensor([[[7.5, -0.5, 2.5], [-0.5, 0.5, 0.0], [2.5, 0.0, 1.0]]])
    assert torch.equal(raw_moments(F_2X2), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_raw_moments_by_definition(layout: torch.memory_format) -> None:
    f = features().contiguous(memory_format=layout)
    one = torch.cat([f, torch.ones(2, 1, 6, 7)], 1).double()
    expected = torch.einsum("nihw,njhw->nij", one, one) / 42
    found = raw_moments(f)
    assert found.shape == (2, 6, 6)
    assert torch.allclose(found.double(), expected, atol=1e-6)
    assert torch.allclose(found[:, :-1, :-1], gram_matrix(f), atol=1e-6)
    assert torch.equal(found[:, :-1, -1], found[:, -1, :-1])
    assert torch.equal(found[:, -1, -1], torch.ones(2))


def test_raw_moments_add_up_over_tiles() -> None:
    f = features(w=8)
    left, right = raw_moments(f[..., :2]), raw_moments(f[..., 2:])
    assert torch.allclose((2 * left + 6 * right) / 8, raw_moments(f), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "result"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_precision(given: torch.dtype, result: torch.dtype) -> None:
    f = features().to(given)
    assert at_least_float32(f).dtype == raw_moments(f).dtype == gram_matrix(f).dtype == result
    assert torch.allclose(raw_moments(f).double(), raw_moments(f.double()), atol=1e-5)


def test_at_least_float32_copies_nothing_that_fits() -> None:
    f = features()
    assert at_least_float32(f) is f


def masks(n: int = 1, h: int = 6, w: int = 7) -> Tensor:
    return torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(1))


def test_weighted_moments_of_a_crop() -> None:
    f, mask = features(), torch.zeros(1, 1, 6, 7)
    mask[..., 2:4, 5:] = 1
    torch.testing.assert_close(raw_moments(f, mask), raw_moments(f[..., 2:4, 5:]))
    torch.testing.assert_close(raw_moments(f, 1 - mask) * 38 + raw_moments(f, mask) * 4, 42 * raw_moments(f))


def test_weighted_moments_by_hand() -> None:
    """With the weights 3, 0, 0, 1, the means of F = [[1, 2, 3, 4], [0, 1, 0, -1]] are 3/4 (1, 0) + 1/4 (4, -1)."""
    found = raw_moments(F_2X2, torch.tensor([[[[3.0, 0.0], [0.0, 1.0]]]]))
    assert torch.equal(found, torch.tensor([[[4.75, -1.0, 1.75], [-1.0, 0.25, -0.25], [1.75, -0.25, 1.0]]]))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("own", [False, True], ids=["one mask", "a mask each"])
def test_weighted_moments_by_definition(layout: torch.memory_format, own: bool) -> None:
    f, w = features(n=3).contiguous(memory_format=layout), masks(3 if own else 1)
    one = torch.cat([f, torch.ones(3, 1, 6, 7)], 1).double()
    shares = (w.double() / w.double().sum((2, 3), keepdim=True)).expand(3, -1, -1, -1)
    expected = torch.einsum("nihw,njhw,nhw->nij", one, one, shares[:, 0])
    found = raw_moments(f, w)
    assert torch.allclose(found.double(), expected, atol=1e-6)
    assert torch.allclose(found, found.transpose(1, 2), atol=1e-6)
    assert torch.allclose(raw_moments(f, 7 * w), found, atol=1e-6)
    assert torch.allclose(raw_moments(f, torch.full_like(w, 0.3)), raw_moments(f), atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("weights", [None, 1, 3])
def test_raw_moments_gradcheck(layout: torch.memory_format, weights: int | None) -> None:
    f = features(3, 4, 3, 2).double().contiguous(memory_format=layout).requires_grad_(True)
    w = None if weights is None else masks(weights, 3, 2)
    assert torch.autograd.gradcheck(lambda f: raw_moments(f, w), (f,))
    # Of a gradient that is not symmetric, the definition in plain operations.
    one = torch.cat([f, torch.ones(3, 1, 3, 2)], 1).flatten(2)
    shares = torch.full((3, 6), 1 / 6) if w is None else (w / w.sum((2, 3), keepdim=True)).flatten(1).expand(3, -1)
    plain = (one * shares[:, None]) @ one.transpose(1, 2)
    given = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(2)).double()
    expected, found = (torch.autograd.grad(m, f, given)[0] for m in (plain, raw_moments(f, w)))
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_raw_moments_of_bfloat16_and_their_gradient(weighted: bool) -> None:
    """The sums are float32; only the features, and the gradient that goes back to them, are rounded."""
    f, w = features(2, 8, 16, 12).bfloat16().requires_grad_(True), masks(1, 16, 12) if weighted else None
    exact = f.detach().double().requires_grad_(True)
    found, expected = raw_moments(f, w), raw_moments(exact, w)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-5)
    given = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(2))
    (gradient,), (wanted,) = torch.autograd.grad(found, f, given), torch.autograd.grad(expected, exact, given.double())
    assert gradient.dtype == torch.bfloat16
    assert (gradient.double() - wanted).norm() < 0.01 * wanted.norm()


def test_moments_of_nothing_are_zero() -> None:
    f = features().requires_grad_(True)
    found = raw_moments(f, torch.zeros(1, 1, 6, 7))
    assert torch.equal(found, torch.zeros(2, 6, 6))
    (gradient,) = torch.autograd.grad(found.sum(), f)
    assert torch.equal(gradient, torch.zeros_like(f))


def test_no_gradient_goes_to_the_weights() -> None:
    f, w = features().requires_grad_(True), masks().requires_grad_(True)
    found = torch.autograd.grad(raw_moments(f, w).sum(), (f, w), allow_unused=True, materialize_grads=False)
    assert found[0] is not None
    assert found[1] is None


def test_covariance() -> None:
    f = features(c=4, h=10, w=9).double()
    found = covariance(raw_moments(f))
    for i in range(2):
        assert torch.allclose(found[i], torch.cov(f[i].flatten(1), correction=0))
    assert torch.allclose(covariance(raw_moments(F_2X2)), torch.tensor([[[1.25, -0.5], [-0.5, 0.5]]]))


def headed() -> VGG:
    net = VGG(VGGConfig((4, 6), (1, 1), {"relu1_1": 9, "relu2_1": 3}), "headed").eval()
    g = torch.Generator().manual_seed(3)
    net.initialise(g)
    for head in net.heads.values():
        head.bias.data.normal_(0, 1, generator=g)  # type: ignore[union-attr]
    return net


@pytest.mark.parametrize("layer", ["relu1_1", "relu2_1"])  # a head wider, and one narrower, than its layer
def test_head_metric_gives_the_distance_behind_the_head(layer: str) -> None:
    net = headed()
    x, y = torch.rand(2, 1, 3, 20, 24, generator=torch.Generator().manual_seed(4))
    fx, fy = net(x, [layer])[layer], net(y, [layer])[layer]
    a = head_metric(net, layer)
    assert a is not None
    assert a.dtype == torch.float32
    assert torch.allclose(a, a.t(), atol=1e-5)
    found = torch.linalg.matrix_norm(a @ (raw_moments(fx) - raw_moments(fy)) @ a)
    wide = net.heads[layer]
    expected = torch.linalg.matrix_norm(gram_matrix(wide(fx)) - gram_matrix(wide(fy)))
    assert torch.allclose(found, expected, rtol=1e-4)
    size = torch.linalg.matrix_norm(gram_matrix(wide(fy)))
    assert torch.allclose(torch.linalg.matrix_norm(a @ raw_moments(fy) @ a), size, rtol=1e-4)


def test_no_head_no_metric() -> None:
    assert head_metric(headed(), "conv1_1") is None


def test_matrix_sqrt() -> None:
    b = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for matrix in (b @ b.t(), b.t() @ b, torch.zeros(2, 2, dtype=torch.float64)):  # the first and last are singular
        root = matrix_sqrt(matrix)
        assert root.isfinite().all()
        assert torch.allclose(root, root.t())
        assert torch.allclose(root @ root, matrix, atol=1e-7)
    assert torch.allclose(matrix_sqrt(torch.tensor([[5.0, 4.0], [4.0, 5.0]])), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))


def test_pack_row_by_row() -> None:
    assert pack(torch.tensor([[1, 2, 3], [2, 4, 5], [3, 5, 6]])).tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("c", [1, 2, 3, 65, 513])
def test_pack_there_and_back(c: int) -> None:
    matrix = torch.randn(2, c, c, generator=torch.Generator().manual_seed(6))
    matrix = matrix + matrix.transpose(1, 2)
    triangle = pack(matrix)
    assert triangle.shape == (2, c * (c + 1) // 2)
    assert torch.equal(unpack(triangle), matrix)
    assert torch.equal(unpack(triangle[0]), matrix[0])
