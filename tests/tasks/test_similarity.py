"""Which texts are nearly the same."""

import numpy as np
import pytest

from sotopia_gym import load_suite
from sotopia_gym.errors import ConfigError, MissingDependencyError
from sotopia_gym.tasks.schema import Suite
from sotopia_gym.tasks.similarity import (
    SAME_NGRAMS,
    MeaningIndex,
    NgramIndex,
    contamination,
    sentence_embedder,
)

TEXT = (
    "Two neighbours meet at the bins on a rainy evening, after one of them has found the other's "
    "cat asleep in the laundry room for the third time this week."
)
COPY = TEXT.replace("cat", "dog").replace("rainy", "cold")
RETOLD = (
    "On a wet night, beside the rubbish containers, somebody wants to talk to the person next door "
    "about a pet that keeps sleeping among the washing machines."
)
OTHER = "A coach tells a goalkeeper that somebody younger will start in the final on Sunday."


def test_a_copy_with_other_nouns_is_found_and_other_texts_are_not():
    index = NgramIndex()
    index.add("neighbours", TEXT)
    index.add("goalkeeper", OTHER)
    assert index.nearest(TEXT).similarity == 1
    assert index.nearest(TEXT.upper().replace(",", " -")).similarity == 1
    assert index.nearest(COPY).key == "neighbours"
    assert index.nearest(COPY).similarity > SAME_NGRAMS
    assert index.nearest(f"{TEXT} {OTHER} And more than that happened.").similarity > 0.9
    assert index.nearest(RETOLD).similarity < SAME_NGRAMS
    assert index.nearest("Nothing at all.") == index.nearest("")


def test_a_key_is_known_once():
    index = NgramIndex()
    index.add("a", TEXT)
    with pytest.raises(ConfigError, match="knows 'a'"):
        index.add("a", OTHER)


def test_meanings_are_compared_by_the_cosine():
    words = ("pet", "cat", "dog", "goalkeeper", "final")

    def embed(texts):
        counts = np.array([[text.count(word) for word in words] for text in texts], float)
        counts[:, 0] += counts[:, 1] + counts[:, 2]  # a cat is a pet
        return counts[:, [0, 3, 4]]

    index = MeaningIndex(embed)
    assert index.nearest(TEXT).similarity == 0
    index.add({"neighbours": TEXT, "goalkeeper": OTHER})
    assert index.nearest(RETOLD).key == "neighbours"
    assert index.nearest(RETOLD).similarity == pytest.approx(1)
    assert index.nearest("Rain.").similarity == 0


def test_without_the_package_the_error_names_the_extra():
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match="embed"):
            sentence_embedder("any")
    else:
        pytest.skip("sentence-transformers is installed")


def test_contamination_lists_what_is_in_the_test_suite_too():
    starter = load_suite("starter")
    price = [t for t in starter.split("train") if t.scenario.outcome.family == "price"]
    division = [t for t in starter.split("heldout") if t.scenario.outcome.family == "division"]
    training = Suite(name="training", tasks=(price[0], *division[:3]))
    testing = Suite(name="testing", tasks=tuple(price[:5]))
    found = contamination(training, [testing])
    assert [(one.scenario_id, one.match.similarity) for one in found] == [
        (price[0].scenario.scenario_id, 1.0)
    ]
    assert contamination(training, [Suite(name="other", tasks=(price[9],))], threshold=1.0) == []


def test_suites_that_use_the_same_ids_hide_none_of_each_others_scenarios():
    one, other = [
        task for task in load_suite("starter") if task.scenario.outcome.family == "price"
    ][:2]
    scenario = other.scenario.model_copy(update={"scenario_id": one.scenario.scenario_id})
    renamed = other.model_copy(update={"scenario": scenario})
    suites = [Suite(name="first", tasks=(one,)), Suite(name="second", tasks=(renamed,))]
    for suite in suites:
        (found,) = contamination(suite, suites)
        assert found.match.similarity == 1
        assert found.match.key.removeprefix("second/") == one.scenario.scenario_id
