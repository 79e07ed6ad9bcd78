import pytest
import torch

from impasto.train.balance import ContentBalance

TWO = torch.tensor([2.0, 2.0])


def test_each_weight_settles_by_itself() -> None:
    balance = ContentBalance(2, content=0.5)
    contents, styles = torch.tensor([3.0, 0.4]), TWO
    balance.follow(10, TWO, contents, styles)
    assert balance.weights.tolist() == pytest.approx([0.05, 0.05])  # too early
    for step in range(400, 420):
        balance.follow(step, TWO, contents, styles)
    far, near = balance.weights.tolist()
    assert far > 0.06  # its content was too far from the photograph
    assert near < 0.045
    for step in range(400, 2000):
        balance.follow(step, TWO, contents, styles)
    assert balance.weights.tolist() == pytest.approx([0.5, 0.005])  # and no further


def test_a_weight_that_is_given_stays() -> None:
    balance = ContentBalance(2, content=0.5, fixed=0.3)
    balance.follow(1000, TWO, torch.tensor([3.0, 0.4]), TWO)
    assert balance.weights.tolist() == pytest.approx([0.3, 0.3])


def test_a_style_that_is_hard_to_reach_is_allowed_more() -> None:
    balance = ContentBalance(3, content=1.0)
    seen = torch.tensor([1.0, 1.0, 0.0])
    balance.follow(1, seen, seen, torch.tensor([0.4, 0.1, 0.0]))
    assert balance.allowed().tolist() == [1.0, 1.0, 1.0]  # nothing is known of the third
    balance.follow(2, torch.tensor([0.0, 0.0, 1.0]), torch.ones(3), torch.tensor([9.0, 9.0, 0.25]))
    assert balance.distances.tolist() == pytest.approx([0.4, 0.1, 0.25])  # those not painted stay
    assert balance.allowed().tolist() == pytest.approx([1.6**0.5, 0.4**0.5, 1.0])


def test_what_has_settled_is_gone_on_with_at_once() -> None:
    balance = ContentBalance(2, content=0.5, first=[0.1, 0.2])
    assert balance.weights.tolist() == pytest.approx([0.1, 0.2])
    balance.follow(1, TWO, torch.tensor([3.0, 0.4]), TWO)
    assert balance.weights[0] > 0.1 > 0.2 - balance.weights[1]
    assert ContentBalance(3, content=0.5, first=[0.1, 0.2]).weights.tolist() == pytest.approx([0.05] * 3)


def test_it_goes_on_from_its_state() -> None:
    one, other = ContentBalance(2, content=0.5), ContentBalance(2, content=0.5)
    one.follow(400, TWO, torch.tensor([3.0, 0.4]), TWO)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.weights, other.weights)
    assert torch.equal(one.allowed(), other.allowed())
