"""Padding counts for nothing in the tagger: not in the loss, not in a gradient, not in what other words are read as."""

from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="examples need the extra [torch]")
pytest.importorskip("matplotlib", reason="examples need the extra [cli]")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TAGS = ("NOUN", "VERB", "DET")
SENTENCES = [
    (["Dogs", "bark"], ["NOUN", "VERB"]),
    (["The", "dog", "saw", "a", "cat"], ["DET", "NOUN", "VERB", "DET", "NOUN"]),
    (["Cats", "saw", "dogs"], ["NOUN", "VERB", "NOUN"]),
]


@pytest.fixture
def made(monkeypatch):
    """The example, its three sentences, and a network in float64 without dropout."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import tagging

    torch.manual_seed(3)
    network = tagging.Network(6, len(TAGS)).double().eval()
    with torch.no_grad():  # of a network that knows nothing, every word would cost the same
        network.head.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    sentences = tagging.encode(SENTENCES, {"the": 2, "dog": 3, "saw": 4, "dogs": 5}, TAGS)
    return SimpleNamespace(tagging=tagging, network=network, sentences=sentences)


def loss_and_gradients(network, batch):
    network.zero_grad()
    loss = network.loss(batch)
    loss.backward()
    return loss.item(), [parameter.grad.clone() for parameter in network.parameters()]


def test_more_padding_changes_neither_the_loss_nor_a_gradient(made):
    fill_up = made.tagging.fill_up
    loss, gradients = loss_and_gradients(made.network, fill_up(made.sentences))
    wider, wider_gradients = loss_and_gradients(made.network, fill_up(made.sentences, longest=12))
    assert wider == pytest.approx(loss, rel=1e-13)
    for one, other in zip(gradients, wider_gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-14)


def test_the_loss_of_a_batch_is_the_mean_over_the_words_of_its_sentences(made):
    fill_up = made.tagging.fill_up
    with torch.no_grad():
        alone = [made.network.loss(fill_up([one])).item() * len(one.form) for one in made.sentences]
        together = made.network.loss(fill_up(made.sentences)).item()
    assert together == pytest.approx(sum(alone) / 10, rel=1e-12)


def test_padding_that_counted_would_be_seen(made):
    batch = made.tagging.fill_up(made.sentences, longest=12)
    counted = batch._replace(tag=batch.tag.clamp(min=0))  # padding taken for the first tag
    with torch.no_grad():
        assert abs(made.network.loss(counted) - made.network.loss(batch)) > 0.01


def test_words_are_read_alike_beside_longer_sentences(made):
    together = made.tagging.look_at(made.network, made.sentences)
    alone = [made.tagging.look_at(made.network, [one]) for one in made.sentences]
    torch.testing.assert_close(
        torch.from_numpy(together[1]), torch.cat([torch.from_numpy(logits) for _, logits, _ in alone])
    )
    assert together[2].tolist() == [TAGS.index(tag) for _, tags in SENTENCES for tag in tags]


def test_a_word_never_seen_still_has_looks(made):
    unknown, known = made.tagging.UNKNOWN, made.sentences[1]
    assert made.sentences[0].word.tolist() == [5, unknown]
    assert made.tagging.looks_of("barking") == made.tagging.looks_of("barking")
    assert made.tagging.looks_of("barking")[-5] == made.tagging.looks_of("singing")[-5]  # both end in -ing
    assert known.looks.shape == (5, made.tagging.N_LOOKS)
