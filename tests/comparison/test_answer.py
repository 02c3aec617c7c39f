"""The comparison in sentences: every number is the table's, and no more is said than was shown."""

import pytest

from gaprun.comparison import compare
from gaprun.comparison.answer import sentences
from gaprun.tables.numbers import p_value

METRICS = ["gap", "recall@5", "zeroshot_top1"]


def fill(add, seeds, **recipes):
    """Runs whose values differ a little from seed to seed, and by recipe as given: gap, recall, zero-shot."""
    for name, (gap, recall, zeroshot) in recipes.items():
        for seed in range(seeds):
            off = (0, 1, -1, 2, -2)[seed] * (1 if name == "baseline" else 1.1)
            add(
                name,
                seed,
                gap=gap + off / 100,
                image_recall_at_5=recall + off / 10,
                zeroshot_top1=zeroshot - off / 10,
            )


def test_of_many_rows_the_one_that_closes_most_and_what_it_costs(store, add):
    fill(add, 5, baseline=(0.6, 50, 30), near=(0.5, 50.0, 33), far=(0.2, 40, 30.01), wide=(0.8, 50, 30))
    closing, buying, sure = sentences(compare(METRICS, db=store.place.name))
    assert closing.startswith("far closes the gap most, from 0.600 (baseline) to 0.200: −0.400 [")
    cells = compare(METRICS, db=store.place.name).records()
    low, high = next(r["delta_ci95"] for r in cells if r["group"] == "far" and r["metric"] == "gap")
    assert f"[−{-low:.3f}, −{-high:.3f}]" in closing
    assert buying.startswith("It loses in retrieval (image_recall@5 −10.0 [")
    assert "no difference is shown in classification (zeroshot_top1 +0.0 [" in buying
    assert "of 3 rows 2 close the gap with p < .05; of these 0 gain and 1 lose in retrieval" in sure
    assert "of these 1 gain and 0 lose in classification (5 seeds a row; gap of scenes/test, full)" in sure


def test_a_loss_in_one_metric_is_not_said_of_its_kind(store, add):
    """Half of what stood behind `it loses in retrieval` could be a difference that nothing shows."""
    for seed, off in enumerate((0.0, 0.1, -0.1)):
        add("baseline", seed, gap=0.6 + off / 100, image_recall_at_5=50 + off, text_recall_at_5=60 + off)
        other = 50 + 20 * off  # a wide interval about none
        add("swap", seed, gap=0.2 + off / 90, image_recall_at_5=other, text_recall_at_5=50 + off * 1.1)
    _, buying, _ = sentences(compare([*METRICS, "text_recall@5"], db=store.place.name))
    assert buying.startswith("It loses in retrieval by text_recall@5 −10.0 [")
    assert "] alone (image_recall@5 +0.0 [" in buying and "classification" not in buying


def test_two_seeds_show_what_each_saw_and_claim_no_proof(store, add):
    fill(add, 2, baseline=(0.67, 50, 30), swap=(0.27, 50, 30))
    closing, buying, sure = sentences(compare(METRICS, db=store.place.name))
    assert closing.startswith("swap closes the gap, from 0.675 (baseline) to 0.276: ")
    assert closing.endswith("], −0.400 and −0.399 in its two seeds.")
    assert buying.startswith("No difference is shown in retrieval (") and " and classification (" in buying
    assert sure.startswith("How sure: p") and "2 seeds a row: a direction, no proof" in sure


def test_a_smaller_mean_that_chance_explains_closes_nothing(store, add):
    for seed, (before, after) in enumerate([(1.0, 0.7), (1.0, 1.0), (1.0, 0.99)]):
        add("baseline", seed, gap=before)
        add("swap", seed, gap=after)
    closing = sentences(compare("gap", db=store.place.name))[0]
    assert closing.startswith("No row is shown to close the gap; swap comes nearest, from 1.000 (baseline)")
    for seed, off in enumerate((0, 0.001, -0.001)):  # shown, though its mean is above swap's
        add("sure", seed, gap=0.95 + off)
    closing, _, sure = sentences(compare("gap", db=store.place.name))
    assert closing.startswith("sure closes the gap most, from 1.000 (baseline) to 0.950")
    assert "of 2 rows 1 close the gap with p < .05" in sure


@pytest.mark.parametrize(
    "after, words",
    [
        ((0.7, 0.4), "swap has the smaller gap in both seeds, from 1.000 (baseline) to 0.550: −0.450 ["),
        ((0.7, 1.1), "No row is shown to close the gap; swap comes nearest, from 1.000 (baseline) to 0.900"),
        (
            (0.7,),
            "swap has the smaller gap in its one seed, from 1.000 (baseline) to 0.700: −0.300 [one value]",
        ),
    ],
)
def test_two_seeds_that_disagree_close_nothing(store, add, after, words):
    for seed, gap in enumerate(after):
        add("baseline", seed, gap=1.0)
        add("swap", seed, gap=gap)
    assert sentences(compare("gap", db=store.place.name))[0].startswith(words)


def ragged(add, **recipes):
    """Runs of the gap alone: each recipe's values by seed."""
    for name, gaps in recipes.items():
        for seed, gap in gaps.items():
            add(name, seed, gap=gap)


def test_rows_of_other_seeds_are_ranked_by_what_they_close_and_both_ends_are_of_the_difference(store, add):
    """The smallest mean may be that of easy seeds, and a baseline's mean over all seeds is another number."""
    easy_and_hard = {0: 0.4, 1: 0.401, 2: 0.399, 3: 0.6, 4: 0.601, 5: 0.599}
    ragged(add, baseline=easy_and_hard, small={0: 0.35, 1: 0.352, 2: 0.349}, most={3: 0.4, 4: 0.402, 5: 0.4})
    closing = sentences(compare("gap", db=store.place.name))[0]
    assert closing.startswith("most closes the gap most, from 0.600 (baseline) to 0.401: −0.199 [")
    assert closing.endswith(" over the 3 seeds that both have.")
    ragged(add, small={0: 0.45, 1: 0.452, 2: 0.449}, most={3: 0.65, 4: 0.502, 5: 0.56})
    closing = sentences(compare("gap", db=store.place.name))[0]
    assert closing.startswith(
        "No row is shown to close the gap; most comes nearest, from 0.600 (baseline) to 0.571"
    )


@pytest.mark.parametrize(
    "before, after, words, end",
    [
        (
            {0: 0.4, 5: 0.2, 6: 0.2},
            {0: 0.35, 1: 0.3, 2: 0.3},
            "No row closes the gap; swap comes",
            "+0.316].",
        ),
        (
            {0: 0.4, 1: 0.41, 5: 0.2, 6: 0.22},
            {0: 0.35, 1: 0.36, 2: 0.3, 3: 0.37},
            "No row closes the gap; swap comes nearest, from 0.307 (baseline) to 0.345: +0.037 [",
            "], −0.050 and −0.050 in the two seeds that both have.",
        ),
        (
            {0: 0.4, 1: 0.2},
            {0: 0.35},
            "swap has the smaller gap in its one seed, from 0.400 (",
            "that both have.",
        ),
    ],
)
def test_what_few_shared_seeds_saw_is_not_said_of_all(store, add, before, after, words, end):
    ragged(add, baseline=before, swap=after)
    closing = sentences(compare("gap", db=store.place.name))[0]
    assert closing.startswith(words) and closing.endswith(end)


def test_where_the_correction_undoes_what_an_interval_says_the_p_stands_beside_it(store, add):
    for seed, off in enumerate((0, 0.1, -0.1)):
        add("baseline", seed, gap=0.6 + off / 10, image_recall_at_1=50.0, text_recall_at_1=50.0)
        add("a", seed, gap=0.1 + off / 9, image_recall_at_1=50.3 + off, text_recall_at_1=50.0 + off)
        for name in "bcde":
            add(name, seed, gap=0.5 + off / 9, image_recall_at_1=50.0 + 9 * off, text_recall_at_1=50.0 + off)
    found = compare(["gap", "recall@1"], db=store.place.name)
    own = next(r for r in found.records() if r["group"] == "a" and r["metric"] == "image_recall@1")
    assert own["delta_ci95"][0] > 0 and own["p_corrected"] > 0.05 > own["p_value"]
    buying = sentences(found)[1]
    assert f"+0.3 [+0.1, +0.5] {p_value(own['p_corrected'])} corrected, text_recall@1 +0.0 [" in buying


def test_what_has_no_interval_says_why_and_alike_is_said_only_with_a_margin(store, add):
    fill(add, 1, baseline=(0.6, 50, 30), swap=(0.3, 51, 30))
    closing, _, sure = sentences(compare(METRICS, db=store.place.name))
    assert "−0.300 [one value]" in closing and "1 seed a row: no interval" in sure
    fill(add, 5, other=(0.3, 50.01, 30.01))
    fill(add, 5, baseline=(0.6, 50, 30))
    _, buying, _ = sentences(compare(METRICS, db=store.place.name, margin=1.5, where=["recipe!=swap"]))
    assert buying.startswith("No difference of 1.5 points or more in retrieval (")


def test_with_a_margin_it_is_counted_how_many_stay_within_it(store, add):
    fill(add, 5, baseline=(0.6, 50, 30), near=(0.5, 50.1, 33), far=(0.2, 40, 30.01))
    sure = sentences(compare(METRICS, db=store.place.name, margin={"recall@5": 1, "zeroshot_top1": 1}))[2]
    assert "of these 0 gain, 1 lose and 1 differ by less than the margin in retrieval" in sure
    assert "of these 1 gain, 0 lose and 1 differ by less than the margin in classification" in sure


def test_no_row_closes_the_gap_and_nothing_to_say(store, add):
    fill(add, 3, baseline=(0.2, 50, 30), worse=(0.4, 50, 30))
    closing, *_ = sentences(compare(METRICS, db=store.place.name))
    assert closing.startswith(
        "No row closes the gap; worse comes nearest, from 0.200 (baseline) to 0.400: +0.200"
    )
    assert sentences(compare(METRICS, db=store.place.name, where=["recipe=worse"])) == []
    assert sentences(compare("zeroshot_top1", db=store.place.name)) == []


@pytest.mark.parametrize("top", [None, 1])
def test_no_number_depends_on_what_is_shown(store, add, top):
    fill(add, 3, baseline=(0.6, 50, 30), one=(0.5, 50, 30), two=(0.1, 50, 30))
    found = sentences(compare(METRICS, db=store.place.name, top=top))
    assert found[0].startswith("two closes the gap most")
