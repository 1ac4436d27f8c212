"""The judge of the kill tests must itself be able to find a loss."""

from oracle import Expected, check

SENT = [Expected("a", "SUCCESS", 3), Expected("a-callback", "SUCCESS", 13), Expected("b", "FAILURE")]
STORED = {
    "a": {"status": "SUCCESS", "result": 3},
    "a-callback": {"status": "SUCCESS", "result": 13},
    "b": {"status": "FAILURE", "result": {}},
}
ANNOUNCED = [("a", "STARTED"), ("a", "SUCCESS"), ("a-callback", "SUCCESS"), ("b", "RETRY"), ("b", "FAILURE")]


def test_nothing_lost():
    verdict = check(SENT, STORED, ANNOUNCED)
    assert verdict.holds()
    assert verdict.duplicates == {}


def test_a_lost_task():
    stored = {key: meta for key, meta in STORED.items() if key != "b"}
    assert check(SENT, stored, ANNOUNCED).lost == [SENT[2]]


def test_a_lost_callback():
    stored = {key: meta for key, meta in STORED.items() if key != "a-callback"}
    assert check(SENT, stored, ANNOUNCED).lost == [SENT[1]]


def test_a_task_that_never_ended():
    stored = {**STORED, "a": {"status": "STARTED", "result": None}}
    assert check(SENT, stored, ANNOUNCED).lost == [SENT[0]]


def test_a_wrong_state_and_a_wrong_result():
    stored = {**STORED, "a": {"status": "SUCCESS", "result": 4}, "b": {"status": "SUCCESS", "result": 1}}
    assert [task for task, _ in check(SENT, stored, ANNOUNCED).wrong] == [SENT[0], SENT[2]]


def test_two_final_states_of_one_id():
    announced = [*ANNOUNCED, ("a", "FAILURE"), ("a", "SUCCESS")]
    assert not check(SENT, STORED, announced).holds()


def test_an_id_that_nobody_expected():
    verdict = check(SENT, STORED, [*ANNOUNCED, ("a-callback-again", "SUCCESS")])
    assert verdict.unexpected == ["a-callback-again"]
    assert not verdict.holds()


def test_an_end_that_nobody_was_told_of():
    verdict = check(SENT, STORED, [entry for entry in ANNOUNCED if entry != ("b", "FAILURE")])
    assert verdict.unheard == [SENT[2]]
    assert not verdict.holds()


def test_duplicates_are_counted_and_are_no_loss():
    verdict = check(SENT, STORED, [*ANNOUNCED, ("a", "SUCCESS"), ("a", "SUCCESS"), ("b", "FAILURE")])
    assert verdict.holds()
    assert verdict.duplicates == {"a": 2, "b": 1}
