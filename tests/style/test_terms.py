"""Tests of the terms of a loss: how areas are divided, known answers, and the weights of parts and layers."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.device import Compute
from impasto.models.moments import raw_moments
from impasto.models.vgg import VGG, VGGConfig
from impasto.style.extra import histogram_loss, laplacian_loss, quantiles, sample_positions, self_similarity_loss
from impasto.style.losses import MomentsTarget, content_loss, covariance_metric, gram_loss, head_metric, moments_loss
from impasto.style.terms import (
    LEAST_REGION,
    ContentTerm,
    HistogramTerm,
    LaplacianTerm,
    MomentsTerm,
    Part,
    PerceptualLoss,
    SimilarityTerm,
    TemporalTerm,
    Term,
    VariationTerm,
    View,
    distance,
    divide,
    inside,
)

PLAIN = Compute(torch.device("cpu"), None)
HEADS = {"relu1_1": 7, "relu3_1": 9}
LAYERS = ("relu1_1", "relu2_1", "relu3_1")
SHARES = {"relu1_1": 0.5, "relu2_1": 0.3, "relu3_1": 0.2}
WHOLE = Part(1.0, None)


def network(heads: dict[str, int]) -> VGG:
    net = VGG(VGGConfig((3, 4, 5), (1, 1, 1), heads), "tiny").eval()
    net.initialise(torch.Generator().manual_seed(0))
    for k, head in net.heads.items():
        torch.nn.init.uniform_(head.get_parameter("bias"), generator=torch.Generator().manual_seed(len(k)))
    return net


def random_picture(seed: int, *size: int) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


IMAGE, CONTENT, STYLE, OTHER = (random_picture(i, 32, 48) for i in range(4))


def value(term: Term, view: View, image: Tensor = IMAGE) -> Tensor:
    return PerceptualLoss(view, {"term": (1.0, term)})(image)["total"]


def moments_of(view: View, picture: Tensor) -> dict[str, Tensor]:
    return {k: raw_moments(f) for k, f in view.features(picture, LAYERS).items()}


def quantiles_of(view: View, picture: Tensor) -> dict[str, Tensor]:
    return {k: quantiles(f) for k, f in view.features(picture, LAYERS).items()}


def left(width: int, size: tuple[int, int] = (32, 48)) -> Tensor:
    """Return a mask of that many columns on the left."""
    mask = torch.zeros(1, 1, *size)
    mask[..., :width] = 1
    return mask


# -- regions ----------------------------------------------------------------------------------------------------------


def test_the_area_is_divided() -> None:
    assert divide([]) == [Part(1.0, None)]
    one, two = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    one[..., :2] = 1
    two[..., 1:3] = 1  # overlaps by a column, which both share
    parts = divide([one, two])
    assert [p.share for p in parts] == pytest.approx([0.375, 0.375, 0.25])
    masks = torch.cat([p.mask for p in parts if p.mask is not None], 1)
    torch.testing.assert_close(masks.sum(1), torch.ones(1, 4, 4))
    assert masks[0, :, 0].t().tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]


def test_soft_masks_are_divided() -> None:
    """Where masks sum to less than one, the rest gets the difference; where to more, each is scaled down."""
    soft = [torch.tensor([[[[0.2, 0.9, 1.0]]]]), torch.tensor([[[[0.3, 0.3, 1.0]]]])]
    masks = [p.mask for p in divide(soft)]
    expected = [[0.2, 0.75, 0.5], [0.3, 0.25, 0.5], [0.5, 0.0, 0.0]]
    for mask, row in zip(masks, expected, strict=True):
        assert mask is not None
        assert mask.flatten().tolist() == pytest.approx(row, abs=1e-6)


def test_shares_are_those_of_what_is_painted() -> None:
    """Half is painted, and a region covers half of that, so the region's other half does not count."""
    where, region = torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 8)
    where[..., :4] = 1
    region[..., 2:6] = 1
    parts = divide([region], where)
    assert [p.share for p in parts] == pytest.approx([0.5, 0.5])
    masks = torch.cat([p.mask for p in parts if p.mask is not None], 1)
    torch.testing.assert_close(masks.sum(1, keepdim=True), where)
    (rest,) = divide([], 0.25 * where)
    assert rest.share == pytest.approx(1)
    assert torch.equal(rest.mask, 0.25 * where)  # type: ignore[arg-type]


def test_a_region_without_area_has_no_say() -> None:
    whole, none = torch.ones(1, 1, 100, 200), torch.zeros(1, 1, 100, 200)
    assert [p.share for p in divide([whole, none])] == [1.0, 0.0, 0.0]  # nothing is left for the rest
    point, spot = none.clone(), none.clone()
    point[..., 0, 0] = 1
    spot[..., :3, 0] = 1
    shares = [p.share for p in divide([point, spot])]
    assert shares[0] == 0
    assert LEAST_REGION < shares[1] == pytest.approx(2.5 / 20_000)  # a half of the point is the other's
    nowhere = divide([whole], none)
    assert [p.share for p in nowhere] == [0, 0]


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_the_content_term_is_the_layers_losses_behind_their_heads(heads: dict[str, int]) -> None:
    view, expected = View(network(heads), PLAIN), 0.0
    found, wanted = view.features(IMAGE, LAYERS), view.features(CONTENT, LAYERS)
    for k, share in SHARES.items():
        head = view.encoder.heads[k] if k in heads else torch.nn.Identity()
        expected += share * content_loss(head(found[k]), head(wanted[k])).item()
    term = ContentTerm(view.encoder, wanted, SHARES)
    assert value(term, view).item() == pytest.approx(expected, rel=1e-5)
    assert value(term, view, CONTENT).item() == pytest.approx(0, abs=1e-10)


def test_the_content_term_of_one_layer_needs_no_other() -> None:
    view = View(network({}), PLAIN)
    term = ContentTerm(view.encoder, view.features(CONTENT, LAYERS[1:2]), {"relu2_1": 2.0})
    assert term.layers == ("relu2_1",)
    both = ContentTerm(view.encoder, view.features(CONTENT, LAYERS), {"relu2_1": 2.0, "relu3_1": 0.0})
    assert value(both, view).item() == pytest.approx(value(term, view).item()) != 0


# -- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_the_distance_is_that_of_its_kind(heads: dict[str, int]) -> None:
    net = network(heads)
    for layer in LAYERS:
        found, wanted = (raw_moments(net(x, [layer])[layer]) for x in (IMAGE, STYLE))
        gram, moments = (distance(k, wanted, net, layer)(found) for k in ("gram", "moments"))
        assert torch.equal(gram, gram_loss(found, wanted, head_metric(net, layer)))
        assert torch.equal(moments, moments_loss(found, MomentsTarget.of(wanted, covariance_metric(net, layer))))
        assert gram.item() > 0 < moments.item()


@pytest.mark.parametrize("kind", ["gram", "moments"])
def test_layers_count_by_their_shares(kind: Literal["gram", "moments"]) -> None:
    view = View(network(HEADS), PLAIN)
    target = moments_of(view, STYLE)
    alone = {k: value(MomentsTerm(kind, view.encoder, [(WHOLE, target)], {k: 1.0}), view).item() for k in LAYERS}
    term = MomentsTerm(kind, view.encoder, [(WHOLE, target)], SHARES)
    assert value(term, view).item() == pytest.approx(sum(s * alone[k] for k, s in SHARES.items()), rel=1e-5)
    assert value(term, view, STYLE).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["gram", "moments"])
@pytest.mark.parametrize("size", [(32, 48), (33, 47), (16, 20)])
@pytest.mark.parametrize("arguments", [{}, {"wrap": 32}], ids=str)
def test_a_mask_of_ones_is_none(
    kind: Literal["gram", "moments"], size: tuple[int, int], arguments: dict[str, Any]
) -> None:
    """The same holds for any constant mask, for pictures with odd sides, and for small ones."""
    view, image, target = (
        View(network(HEADS), PLAIN, **arguments),
        random_picture(5, *size),
        moments_of(View(network(HEADS), PLAIN), STYLE),
    )
    plain, *masked = (
        value(MomentsTerm(kind, view.encoder, [(Part(1.0, mask), target)], SHARES), view, image).item()
        for mask in (None, torch.ones(1, 1, *size), torch.full((1, 1, *size), 0.3))
    )
    assert masked == pytest.approx([plain, plain], rel=1e-4)


@pytest.mark.parametrize("kind", ["gram", "moments"])
def test_two_parts_are_each_the_loss_of_their_features(kind: Literal["gram", "moments"]) -> None:
    """The left third and the rest are cut along the features, and each counts by its area."""
    view = View(network(HEADS), PLAIN)
    parts, targets = divide([left(16)]), (moments_of(view, STYLE), moments_of(view, OTHER))
    expected = 0.0
    for k, f in view.features(IMAGE, LAYERS).items():
        third = f.shape[3] // 3
        for share, own, target in ((1 / 3, f[..., :third], targets[0]), (2 / 3, f[..., third:], targets[1])):
            expected += SHARES[k] * share * distance(kind, target[k], view.encoder, k)(raw_moments(own)).item()
    term = MomentsTerm(kind, view.encoder, list(zip(parts, targets, strict=True)), SHARES)
    assert value(term, view).item() == pytest.approx(expected, rel=1e-4)


def test_a_part_without_area_is_not_looked_at() -> None:
    view = View(network({}), PLAIN)
    target, nothing = moments_of(view, STYLE), torch.zeros(1, 1, 32, 48)
    whole = value(MomentsTerm("gram", view.encoder, [(WHOLE, target)], SHARES), view)
    term = MomentsTerm("gram", view.encoder, [(Part(0.0, nothing), {}), (WHOLE, target)], SHARES)
    assert torch.equal(value(term, view), whole)


@pytest.mark.parametrize("name", ["moments", "histogram"])
def test_a_part_draws_its_own_pixels_alone(name: str) -> None:
    """Pixels that the network does not see from inside the mask get no gradient."""
    view = View(network({}), PLAIN)
    part = Part(1.0, left(16))
    term: Term = MomentsTerm("gram", view.encoder, [(part, moments_of(view, STYLE))], SHARES)
    if name == "histogram":
        term = HistogramTerm([(part, quantiles_of(view, STYLE))], SHARES)
    image = IMAGE.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(term, view, image), image)
    columns = gradient.abs().sum((0, 1, 2))
    assert (columns[:16] > 0).all()
    assert columns[32:].abs().max() == 0


# -- histograms -------------------------------------------------------------------------------------------------------


def test_the_histogram_term_is_the_layers_losses() -> None:
    view = View(network({}), PLAIN)
    target = quantiles_of(view, STYLE)
    features = view.features(IMAGE, LAYERS)
    expected = sum(s * histogram_loss(features[k], target[k]).item() for k, s in SHARES.items())
    term = HistogramTerm([(WHOLE, target)], SHARES)
    assert value(term, view).item() == pytest.approx(expected, rel=1e-5)
    own = HistogramTerm([(WHOLE, {k: quantiles(f, f[0, 0].numel()) for k, f in features.items()})], SHARES)
    assert value(own, view).item() == pytest.approx(0, abs=1e-10)


def test_two_parts_have_each_the_histogram_of_their_features() -> None:
    view = View(network({}), PLAIN)
    parts, targets, expected = divide([left(16)]), (quantiles_of(view, STYLE), quantiles_of(view, OTHER)), 0.0
    for k, f in view.features(IMAGE, LAYERS).items():
        third = f.shape[3] // 3
        for share, own, target in ((1 / 3, f[..., :third], targets[0]), (2 / 3, f[..., third:], targets[1])):
            expected += SHARES[k] * share * histogram_loss(own, target[k]).item()
    term = HistogramTerm(list(zip(parts, targets, strict=True)), SHARES)
    assert value(term, view).item() == pytest.approx(expected, rel=1e-4)


def test_features_inside_a_mask() -> None:
    """The features are those that the mask covers at least by half; if there are none, all features are returned."""
    f = torch.arange(12.0).view(1, 2, 2, 3)
    mask = torch.tensor([[[[0.5, 0.4, 0.0], [0.0, 1.0, 0.7]]]])
    for features in (f, f.contiguous(memory_format=torch.channels_last)):
        assert inside(features, mask).tolist() == [[[[0.0, 4.0, 5.0]], [[6.0, 10.0, 11.0]]]]
        assert torch.equal(inside(features, 0.4 * mask).flatten(2), f.flatten(2))


# -- of the content and the pixels ------------------------------------------------------------------------------------


def test_the_laplacian_term() -> None:
    view = View(network({}), PLAIN)
    term = LaplacianTerm(CONTENT)
    assert value(term, view).item() == pytest.approx(laplacian_loss(IMAGE, CONTENT).item())
    assert value(term, view, CONTENT).item() == 0
    assert value(term, view, CONTENT + 0.25).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_the_similarity_term_is_the_mean_of_the_layers_losses(heads: dict[str, int]) -> None:
    view = View(network(heads), PLAIN)
    found, wanted = view.features(IMAGE, LAYERS[1:]), view.features(CONTENT, LAYERS[1:])
    positions = {k: sample_positions((f.shape[2], f.shape[3]), seed=1, count=40) for k, f in wanted.items()}
    expected = 0.0
    for k, where in positions.items():
        head = view.encoder.heads[k] if k in heads else torch.nn.Identity()
        expected += 0.5 * self_similarity_loss(head(found[k]), head(wanted[k]), where).item()
    term = SimilarityTerm(view.encoder, wanted, positions)
    assert value(term, view).item() == pytest.approx(expected, rel=1e-3)
    assert value(term, view, CONTENT).item() == pytest.approx(0, abs=1e-4)


def test_the_variation_term_of_a_ramp() -> None:
    """The slopes are 1/100 down and 1/50 to the right."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    ramp = (0.01 * y + 0.02 * x).expand(1, 3, 32, 48)
    assert value(VariationTerm(), View(network({}), PLAIN), ramp).item() == pytest.approx(5e-4, rel=1e-4)


def test_every_term_is_float32_and_hardly_another_in_bfloat16() -> None:
    """No loss is computed in the dtype of the network."""
    net, parts, found = network(HEADS), divide([left(20)]), []
    for low in (None, torch.bfloat16):
        view = View(net, Compute(torch.device("cpu"), low))
        features = view.features(CONTENT, LAYERS)
        positions = {k: sample_positions((f.shape[2], f.shape[3]), seed=1, count=40) for k, f in features.items()}
        moments = list(zip(parts, [moments_of(view, x) for x in (STYLE, OTHER)], strict=True))
        histograms = list(zip(parts, [quantiles_of(view, x) for x in (0.5 * STYLE, OTHER)], strict=True))
        terms: list[Term] = [
            ContentTerm(net, features, SHARES),
            MomentsTerm("gram", net, moments, SHARES),
            MomentsTerm("moments", net, moments, SHARES),
            HistogramTerm(histograms, SHARES),
            SimilarityTerm(net, features, positions),
            VariationTerm(),
        ]
        found.append(PerceptualLoss(view, {str(i): (1.0, t) for i, t in enumerate(terms)})(IMAGE))
    assert all(v.dtype == torch.float32 for v in found[1].values())
    for name, v in found[0].items():
        assert found[1][name].item() == pytest.approx(v.item(), rel=0.05), name


# -- sums -------------------------------------------------------------------------------------------------------------


def columns(x: Tensor, begin: int, end: int) -> Tensor:
    """Return the columns from `begin` to `end` of a mask or of features, for a picture of 48 columns."""
    return x[..., begin * x.shape[3] // 48 : end * x.shape[3] // 48]


def measures_add_up(term_of: Callable[[int, int], Term], view: View) -> None:
    """Check that a term's measures of the left third and of the rest add up to those of the whole.

    `term_of` returns the term for some columns.
    """
    features = view.features(IMAGE.to(view.encoder.mean), LAYERS)
    whole, left_part, rest = term_of(0, 48), term_of(0, 16), term_of(16, 48)
    assert whole.sums
    added: dict[str, Tensor] = {}
    for layer, f in features.items():
        parts = [t.measure(layer, columns(f, *at), view) for t, at in ((left_part, (0, 16)), (rest, (16, 48)))]
        added[layer] = parts[0] + parts[1]
        torch.testing.assert_close(added[layer], whole.measure(layer, f, view), rtol=1e-10, atol=1e-10)
    expected = value(whole, view, IMAGE.to(view.encoder.mean))
    assert whole.total(added, IMAGE).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["gram", "moments"])
def test_the_moments_of_parts_add_up(heads: dict[str, int], masked: bool, kind: Literal["gram", "moments"]) -> None:
    view = View(network(heads).double(), PLAIN)
    soft = torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(4))
    targets = [moments_of(view, x.double()) for x in (STYLE, OTHER, CONTENT)]
    parts = divide([left(20), soft]) if masked else divide([])

    def term_of(begin: int, end: int) -> Term:
        own = [Part(p.share, None if p.mask is None else columns(p.mask, begin, end)) for p in parts]
        return MomentsTerm(kind, view.encoder, list(zip(own, targets[: len(own)], strict=True)), SHARES)

    measures_add_up(term_of, view)


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_the_content_of_parts_adds_up(heads: dict[str, int]) -> None:
    view = View(network(heads).double(), PLAIN)
    features = view.features(CONTENT.double(), LAYERS)

    def term_of(begin: int, end: int) -> Term:
        return ContentTerm(view.encoder, {k: columns(f, begin, end) for k, f in features.items()}, SHARES)

    measures_add_up(term_of, view)


# -- gradients --------------------------------------------------------------------------------------------------------


def content_term(view: View) -> Term:
    return ContentTerm(view.encoder, view.features(CONTENT.double(), LAYERS), SHARES)


def moments_term(kind: Literal["gram", "moments"]) -> Callable[[View], Term]:
    def make(view: View) -> Term:
        parts = divide([left(20), torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(4))])
        targets = [moments_of(view, x.double()) for x in (STYLE, OTHER, CONTENT)]
        return MomentsTerm(kind, view.encoder, list(zip(parts, targets, strict=True)), SHARES)

    return make


def histogram_term(view: View) -> Term:
    targets = [quantiles_of(view, x.double()) for x in (STYLE, OTHER)]
    return HistogramTerm(list(zip(divide([left(20)]), targets, strict=True)), SHARES)


def similarity_term(view: View) -> Term:
    features = view.features(CONTENT.double(), LAYERS[1:])
    positions = {k: sample_positions((f.shape[2], f.shape[3]), seed=1, count=40) for k, f in features.items()}
    return SimilarityTerm(view.encoder, features, positions)


@pytest.mark.parametrize(
    ("make", "heads"),
    [
        (content_term, {}),
        (content_term, HEADS),
        (moments_term("gram"), {}),
        (moments_term("gram"), HEADS),
        (moments_term("moments"), {}),
        (moments_term("moments"), HEADS),
        (histogram_term, {}),
        (lambda _: LaplacianTerm(CONTENT.double()), {}),
        (similarity_term, {}),
        (similarity_term, HEADS),
        (lambda _: VariationTerm(), {}),
        (lambda _: TemporalTerm(CONTENT.double(), STYLE.double()[:, :1]), {}),
    ],
    ids=[
        *("content", "content, heads", "gram", "gram, heads", "moments", "moments, heads"),
        *("histogram", "Laplacian", "similarity", "similarity, heads", "variation", "temporal"),
    ],
)
def test_gradients_are_those_of_finite_differences(make: Callable[[View], Term], heads: dict[str, int]) -> None:
    view = View(network(heads).double(), PLAIN)
    term, image = make(view), IMAGE.double()
    direction = random_picture(6, 32, 48).double() - 0.5
    with torch.no_grad():
        ends = [value(term, view, image + h * direction).item() for h in (1e-6, -1e-6)]
    x = image.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(term, view, x), x)
    assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=3e-4)


def test_temporal_term() -> None:
    """The loss is zero at the moved painting, and matches an answer worked out by hand.

    Places without trust do not count.
    """
    trust = torch.zeros(1, 1, 32, 48)
    trust[..., :24] = 0.5
    term, view = TemporalTerm(CONTENT, trust), View(network({}), PLAIN)
    assert value(term, view, CONTENT) == 0
    assert value(term, view, CONTENT + 0.2).item() == pytest.approx(0.5 * 0.5 * 0.04, rel=1e-4)
    x = IMAGE.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(term, view, x), x)
    assert not gradient[..., 24:].any()
    assert torch.allclose(gradient[..., :24], (IMAGE - CONTENT)[..., :24] / IMAGE.numel())


@pytest.mark.parametrize("make", [content_term, moments_term("gram"), moments_term("moments"), histogram_term])
def test_no_term_keeps_a_graph_of_its_targets(make: Callable[[View], Term]) -> None:
    """Targets are constants, so that the next step's gradient does not look for this step's graph."""
    view = View(network({}).double(), PLAIN)
    loss = PerceptualLoss(view, {"a": (1.0, make(view)), "b": (0.5, VariationTerm())})
    gradients = []
    for _ in range(2):
        x = IMAGE.double().requires_grad_(True)
        loss(x)["total"].backward()
        gradients.append(x.grad)
    assert torch.equal(gradients[0], gradients[1])  # type: ignore[arg-type]


def test_a_descent_lowers_each_part_of_a_mixture() -> None:
    view = View(network(HEADS), PLAIN)
    features = view.features(CONTENT, LAYERS)
    terms: dict[str, tuple[float, Term]] = {
        "content": (0.1, ContentTerm(view.encoder, features, {"relu3_1": 1.0})),
        "moments": (1.0, MomentsTerm("moments", view.encoder, [(WHOLE, moments_of(view, 0.3 * STYLE))], SHARES)),
        "histogram": (0.1, HistogramTerm([(WHOLE, quantiles_of(view, 0.3 * STYLE))], SHARES)),
        "laplacian": (0.1, LaplacianTerm(F.avg_pool2d(CONTENT, 5, 1, 2))),
        "tv": (0.1, VariationTerm()),
    }
    loss, x = PerceptualLoss(view, terms), IMAGE.clone().requires_grad_(True)
    first = {k: v.item() for k, v in loss(x).items()}
    optimiser = torch.optim.Adam([x], lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        loss(x)["total"].backward()
        optimiser.step()
    last = {k: v.item() for k, v in loss(x).items()}
    assert last["total"] < 0.5 * first["total"]
    assert last["moments"] < 0.5 * first["moments"]
    assert last["histogram"] < 0.5 * first["histogram"]
