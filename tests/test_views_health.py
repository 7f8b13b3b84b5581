"Health in words: each sign speaks when its cause is there, and keeps quiet just below."

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentlightning_nb.views import RewardPoint
from agentlightning_nb.views.health import LEVELS, Vitals, health


def series(*values):
    return list(enumerate(values))


def rising(steps=30, n=64, failed=0, mode="train"):
    return tuple(RewardPoint(i, mode, 0.2 + 0.02 * i, 0.4, n, failed) for i in range(steps))


WELL = Vitals(points=rising(), ended=1920, scored=1920, lowest=0.0, highest=1.0)
VAL = [RewardPoint(0, "val", 0.2, 0.4, 400, 0), RewardPoint(10, "val", 0.8, 0.4, 400, 0)]

SIGNS = [  # name, what makes it speak, what does not quite
    ("failed", {"status": "failed", "reason": "boom"}, {"status": "stopped"}),
    ("no workers", {"queued": 3, "waiting_s": 20.0}, {"queued": 3, "waiting_s": 5.0}),
    ("no workers", {"queued": 3, "waiting_s": 99.0}, {"queued": 3, "waiting_s": 99.0, "running": 1}),
    ("no workers", {"queued": 3, "waiting_s": 99.0}, {"queued": 3, "waiting_s": 99.0, "status": "paused"}),
    ("stuck", {"running": 1, "quiet_s": 121.0}, {"running": 1, "quiet_s": 300.0, "typical_s": 60.0}),
    ("failures", {"points": rising(failed=4)}, {"points": rising(failed=0)}),
    ("no reward", {"points": (), "ended": 8, "scored": 0}, {"points": (), "ended": 8, "scored": 0, "failed": 8}),
    ("one reward", {"scored": 32, "highest": 0.0}, {"scored": 31, "highest": 0.0}),
    ("no variance", {"metrics": {"same_reward_groups": series(0.7)}}, {"metrics": {"same_reward_groups": series(0.6)}}),
    ("truncated", {"metrics": {"truncated": series(0.1)}}, {"metrics": {"truncated": series(0.09)}}),
    ("forks", {"metrics": {"forks": series(0.25)}}, {"metrics": {"forks": series(0.2)}}),
    ("not finite", {"metrics": {"grad_norm": series(1.0, None)}}, {"metrics": {"other": series(1.0, None)}}),
    ("mismatch", {"metrics": {"logprob_gap": series(0.06)}}, {"metrics": {"logprob_gap": series(0.02)}}),
    (
        "entropy",
        {"metrics": {"entropy": series(*[0.4] * 8, *[0.02] * 8)}},
        {"metrics": {"entropy": series(*[0.4] * 8, *[0.1] * 8)}},
    ),
    (
        "gradient",
        {"metrics": {"grad_norm": series(*[0.5] * 12, 6.0)}},
        {"metrics": {"grad_norm": series(*[0.01] * 12, 0.9)}},  # small, whatever the ratio
    ),
    ("clipping", {"metrics": {"clip_fraction": series(0.3)}}, {"metrics": {"clip_fraction": series(0.1)}}),
    (
        "standstill",
        {"points": tuple(RewardPoint(i, "train", 0.3 + 0.02 * (i % 2), 0.4, 64, 0) for i in range(20))},
        {"points": tuple(RewardPoint(i, "train", 0.3 + 0.02 * (i % 2), 0.4, 64, 0) for i in range(19))},
    ),
    (
        "overfitting",
        {"points": (*rising(), *VAL, RewardPoint(29, "val", 0.7, 0.4, 400, 0))},
        {"points": (*rising(), *VAL, RewardPoint(29, "val", 0.77, 0.4, 400, 0))},  # within its error
    ),
]


def names(v):
    return [f.name for f in health(v) if f.level != "good"]


@pytest.mark.parametrize(("name", "there", "below"), SIGNS, ids=[s[0] for s in SIGNS])
def test_a_sign_speaks_when_its_cause_is_there_and_not_below(name, there, below):
    assert name in names(replace(WELL, **there))
    assert name not in names(replace(WELL, **below))


def test_a_healthy_run_says_so_in_one_sentence():
    (only,) = health(WELL)
    assert (
        only.level == "good" and only.says == "Healthy: reward rose from 0.24 to 0.74 (step 0 to 29); nothing failed."
    )


def test_the_most_frequent_error_of_the_last_steps_is_named_with_an_example():
    error = {"step": 29, "type": "KeyError", "message": "'llm'\n\n" + "x" * 500, "n": 3, "rollout_id": "ro-7"}
    rare, old = error | {"n": 1, "rollout_id": "ro-8", "type": "E"}, error | {"step": 2, "n": 99, "type": "Old"}
    found = next(f for f in health(replace(WELL, points=rising(failed=4), errors=(old, rare, error))))
    assert found.says.startswith("20 of the last 320 rollouts failed (6.2 %), 3 of them with KeyError: 'llm' xxx")
    assert (found.rollout_id, len(found.says) < 260, "\n" in found.says) == ("ro-7", True, False)


numbers = st.none() | st.floats(-1e9, 1e9) | st.integers(-5, 5).map(float)
steps = st.lists(st.tuples(st.integers(0, 99), numbers), max_size=40).map(lambda rows: sorted(dict(rows).items()))
points = st.builds(
    RewardPoint,
    st.integers(0, 60),
    st.sampled_from(["train", "val", "test"]),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.integers(1, 500),
    st.integers(0, 1),
)
counts = st.integers(0, 10_000)
some_s = st.none() | st.floats(0, 1e7)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        Vitals,
        status=st.sampled_from(["running", "paused", "succeeded", "stopped", "failed"]),
        reason=st.text(max_size=40),
        points=st.lists(points, max_size=60).map(lambda some: tuple(sorted(some, key=lambda p: p.step))),
        metrics=st.dictionaries(
            st.sampled_from(
                ["loss", "entropy", "grad_norm", "logprob_gap", "truncated", "same_reward_groups", "clip_fraction"]
            ),
            steps,
        ),
        **dict.fromkeys(("ended", "scored", "failed", "queued", "running", "workers"), counts),
        **dict.fromkeys(("waiting_s", "quiet_s", "typical_s"), some_s),
        lowest=st.none() | st.floats(-1e6, 0),
        highest=st.none() | st.floats(0, 1e6),
    )
)
def test_whatever_the_figures_there_is_something_to_say_the_worst_first(v):
    found = health(v)
    assert found and [f.level for f in found] == sorted((f.level for f in found), key=LEVELS.index)
    assert all(f.says.strip() and len(f.says) < 700 for f in found)
    assert len({f.name for f in found}) == len(found)


@pytest.mark.parametrize("said", ["boom\u202e", "\u2066boom", "boom\u2069\u202e", "שגיאה"])
def test_a_strangers_words_do_not_turn_what_follows_them(said):
    errors = [{"step": 29, "type": "KeyError", "message": said, "n": 4, "rollout_id": "ro-1"}]
    (found,) = [f for f in health(replace(WELL, points=rising(failed=4), errors=errors)) if f.name == "failures"]
    words = found.says.split("KeyError: ")[1]
    assert (words[0], words[-2:]) == ("\u2068", "\u2069.") and not any(c in words[1:-2] for c in "\u202e\u2066\u2069")
