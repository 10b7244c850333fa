"""Which pages speak of a word the most: how often, for their length, and rare words more."""

from collections import Counter

import ranks


def page(length=100, **words):
    return Counter(words | {"filler": length - sum(words.values())})


def test_the_page_that_says_a_word_most_often_comes_first():
    found = ranks.weights({"a": page(crf=2), "b": page(crf=9), "c": page(crf=5), "d": page()})
    assert sorted(found["crf"], key=found["crf"].get, reverse=True) == ["b", "c", "a"]


def test_of_two_pages_that_say_it_as_often_the_shorter_comes_first():
    found = ranks.weights({"long": page(900, crf=5), "short": page(100, crf=5)})
    assert found["crf"]["short"] > found["crf"]["long"]


def test_a_rare_word_weighs_more_than_one_of_all_pages():
    found = ranks.weights({"a": page(crf=5, label=5), "b": page(label=5), "c": page(label=5)})
    assert found["crf"]["a"] > 2 * found["label"]["a"]


def test_a_page_that_says_it_once_is_left_out():
    found = ranks.weights({"a": page(crf=1, em=1), "b": page(crf=2)})
    assert list(found["crf"]) == ["b"] and "em" not in found


def test_many_mentions_still_count():
    found = ranks.weights({"a": page(crf=8), "b": page(crf=32), "c": page()})
    assert found["crf"]["b"] > 2 * found["crf"]["a"]


def test_the_scorer_reads_the_pages_by_their_place():
    text = ranks.script({"crf": {"b": 1.23456, "a": 20.0}, "em": {"b": 0.5}})
    assert text == 'const RANKS = {"pages":["a","b"],"words":{"crf":{"1":1.23,"0":20.0},"em":{"1":0.5}}};\n'
