"""The ledger: whatever people send, and in whatever order, an approval is answered once or not at all."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from temporalio.converter import value_to_type

from abeyance.answers import Answer
from abeyance.contracts import Decision, Denial, Option, Question, Response
from abeyance.ledger import KEPT_NAMES, KEPT_REFUSALS, Ledger

AT = "2026-01-02T03:04:05+00:00"
RESPONSES = st.sampled_from(["y", "n", 0, False, "", [1], {"a": {"b": [None]}}, "x" * 600, None])


def question(number: int, name: str = "approve", **more: Any) -> Question:
    return Question(f"v1:tool:{number}", name, {"n": number}, "tool", f"use{number}", {"n": number}, "d", **more)


def asked(*names: str) -> Ledger:
    ledger = Ledger()
    ledger.ask([question(index, name) for index, name in enumerate(names, 1)], AT)
    return ledger


def decide(ledger: Ledger, target: int | str | None, response: Any = "y", **more: Any) -> Decision:
    return ledger.decide(Answer(target, response, **more), AT, "signal respond")


class LedgerMachine(RuleBasedStateMachine):
    """A run with its people: turns that ask, end and fail, and answers at any moment, right or wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.running = True
        self.questions: dict[str, Question] = {}
        self.made = 0
        self.named: Counter[str] = Counter()
        self.pending: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        self.numbers: dict[int, str] = {}
        self.keys: dict[str, tuple[Answer, Decision]] = {}

    def recorded(self) -> list[Decision]:
        return [*self.ledger.decisions, *self.ledger.refusals]

    def state(self) -> Any:
        ledger = self.ledger
        return copy.deepcopy((ledger.asked, ledger.waiting, ledger.delivered, ledger.last_number, ledger.decisions))

    @precondition(lambda self: self.running)
    @rule(new=st.integers(0, 3), dropped=st.sets(st.integers(0, 5)))
    def turn_asks(self, new: int, dropped: set[int]) -> None:
        """A turn ends: what it was answered is settled, some old questions are gone, some are new."""
        for settled in self.given:
            del self.questions[settled]
        self.given = {}
        for index, old in enumerate(list(self.questions)):
            if index in dropped:
                del self.questions[old]
                self.pending.pop(old, None)
        for _ in range(new):
            self.made += 1
            fresh = question(self.made, ["approve", "trust"][self.made % 2], strict=self.made % 3 == 0)
            self.questions[fresh.id] = fresh
            self.named[fresh.name] += 1
        before = {approval.id: number for number, approval in self.ledger.asked.items()}
        self.ledger.ask(self.questions.values(), AT)
        for number, approval in self.ledger.asked.items():
            if approval.id in before:
                assert number == before[approval.id], "an open question changed its number"
            else:
                assert number not in self.numbers, "a number was used again"
            self.numbers[number] = approval.id
        self.running = False

    @precondition(lambda self: not self.running)
    @rule()
    def turn_takes_the_answers(self) -> None:
        taken = self.ledger.take_answers()
        assert [(response.id, response.response) for response in taken] == [
            (self.numbers[number], self.pending[self.numbers[number]])
            for number in sorted(self.numbers)
            if self.numbers[number] in self.pending
        ], "every decided response is delivered, once, in the order of the numbers"
        self.given, self.pending = self.given | self.pending, {}
        self.running = True

    @precondition(lambda self: self.running)
    @rule(failed=st.sets(st.integers(1, 5)), ran=st.sets(st.integers(1, 5)))
    def turn_fails_for_its_answers(self, failed: set[int], ran: set[int]) -> None:
        """What the agent failed on is asked again, or else all that has not served yet; the rest stays given."""
        not_served = {id_ for id_ in self.given if id_ not in {f"v1:tool:{n}" for n in ran}}
        to_blame = {id_ for id_ in not_served if id_ in {f"v1:tool:{n}" for n in failed}}
        again = self.ledger.reopen("the agent failed", failed=[f"use{n}" for n in failed], ran=[f"use{n}" for n in ran])
        assert sorted(again) == sorted(to_blame or not_served)
        for reopened in again:
            [approval] = [a for a in self.ledger.open if a.id == reopened]
            assert approval.error == "the agent failed"
            assert self.numbers[approval.number] == approval.id, "a question that is asked again changed its number"
            del self.given[reopened]
        self.running = not again

    @rule(
        named=st.none() | st.integers(-1, 8) | st.sampled_from(["approve", "trust", "v1:tool:1", "v1:tool:3", "no"]),
        response=RESPONSES,
        key=st.none() | st.sampled_from(["k1", "k2", "k3"]),
    )
    def answer(self, named: int | str | None, response: Any, key: str | None) -> None:
        answer = Answer(named, response, by="ada", key=key)
        before, recorded, refused = self.state(), len(self.recorded()), self.ledger.refused_count
        waiting = {number: response.response for number, response in self.ledger.waiting.items()}
        open_before = {approval.number: approval for approval in self.ledger.open}
        objections = self.ledger.objections([answer])
        assert self.state() == before, "asking whether an answer would be refused changed something"
        decision = self.ledger.decide(answer, AT, "signal respond")
        assert objections == ([decision.refused] if decision.refused else [])
        if key and key in self.keys:
            assert self.state() == before, "a key that was used before changed something"
            first, decided = self.keys[key]
            if (type(first.response), first) == (type(response), answer):
                assert decision is decided
                assert (len(self.recorded()), self.ledger.refused_count) == (recorded, refused)
            else:
                assert "Its key came with another answer before" in (decision.refused or "")
                assert self.ledger.refused_count == refused + 1
            return
        if key:
            self.keys[key] = (answer, decision)
        if decision.refused:
            assert self.state() == before, "a refusal changed what is open or decided"
            assert self.ledger.refused_count == refused + 1
            assert decision.approval is None
        else:
            assert decision.approval is not None
            if decision.approval in waiting:
                assert response in (False, "n"), "only a no takes the place of an answer"
                assert waiting[decision.approval] not in ("n",) and waiting[decision.approval] is not False
                [displaced] = [d for d in self.ledger.decisions[:-1] if d.approval == decision.approval][-1:]
                assert displaced.displaced
            else:
                assert decision.approval in open_before, "an approval that was not open was answered"
            assert decision.approval not in {approval.number for approval in self.ledger.open}
            assert named in (None, decision.approval, decision.id, decision.name)
            if named is None:
                assert self.ledger.last_number == 1, "an answer that names nothing landed on a later question"
            if named == decision.name:
                assert self.named[str(named)] == 1, "a name that several approvals had decided one of them"
            if self.ledger.asked[decision.approval].strict:
                assert type(response) in (str, bool)
                assert response in ("y", "n", False), "an unclear answer decided about a call"
            assert str(decision.response)[:400] == str(response)[:400]
            assert decision.id
            self.pending[decision.id] = response

    @rule(response=RESPONSES)
    def refuse(self, response: Any) -> None:
        before = self.state()
        assert self.ledger.refuse([response], "unreadable", AT, "signal respond").refused == "unreadable"
        assert self.state() == before

    @invariant()
    def open_and_waiting_are_what_people_were_asked(self) -> None:
        open_ids = {approval.id for approval in self.ledger.open}
        assert open_ids.isdisjoint(self.pending)
        assert {response.id for response in self.ledger.waiting.values()} == set(self.pending)
        assert open_ids | set(self.pending) | set(self.given) == set(self.questions)
        assert self.ledger.has_answers == bool(self.pending)
        assert {approval.id for approval in self.ledger.delivered} == set(self.given)

    def teardown(self) -> None:
        """The ledger comes back from JSON as it was."""
        text = json.dumps(asdict(self.ledger), allow_nan=False)
        assert value_to_type(Ledger, json.loads(text)) == self.ledger


LedgerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAnySequence = LedgerMachine.TestCase


def test_an_answer_that_names_nothing_is_for_the_first_question_only() -> None:
    """Two people look at question 1 and both answer it; the second answer must not land on question 2."""
    ledger = asked("first")
    assert decide(ledger, None, by="ada").approval == 1
    ledger.take_answers()
    ledger.ask([question(2, "second")], AT)
    late = decide(ledger, None, by="bob")
    assert "not the run's first question: you may have seen another. Send the number. Open: 2 (second)." in (
        late.refused or ""
    )
    assert decide(ledger, None, "n").refused
    assert [approval.number for approval in ledger.open] == [2]
    assert decide(ledger, 2).refused is None


def test_an_answer_that_names_nothing_is_refused_while_several_are_open() -> None:
    ledger = asked("first", "second")
    assert decide(ledger, None).refused == "2 approvals are open, say which: 1 (first), 2 (second)."
    assert decide(ledger, 1).refused is None
    assert "not the run's first question" in (decide(ledger, None).refused or "")
    assert len(ledger.open) == 1


def test_a_question_that_is_asked_again_takes_no_answer_that_names_nothing() -> None:
    """Something has been decided: whoever sends it may have seen the question as it was before."""
    ledger = asked("only")
    decide(ledger, 1, 5)
    ledger.take_answers()
    ledger.reopen("the agent failed")
    assert decide(ledger, None).refused
    assert decide(ledger, 1).refused is None


@pytest.mark.parametrize("response", [1, "1", " 1 "])
def test_the_number_of_an_open_approval_is_no_response_to_it(response: Any) -> None:
    ledger = asked("only")
    assert "is the number of an open approval, and no response" in (decide(ledger, None, response).refused or "")
    assert len(ledger.open) == 1


@pytest.mark.parametrize("digest", ["6bd00fed", "6bd00fed" + "0" * 56])
def test_a_digest_says_which_call_is_meant(digest: str) -> None:
    ledger = Ledger()
    asked_about = [question(1), question(2)]
    asked_about[0].digest, asked_about[1].digest = "a" * 64, "6bd00fed" + "0" * 56
    ledger.ask(asked_about, AT)
    changed = decide(ledger, 1, digest=digest)
    assert "has the digest aaaaaaaa, not 6bd00fed" in (changed.refused or "")
    assert "No open approval has the digest bbbbbbbb" in (decide(ledger, None, digest="b" * 8).refused or "")
    assert len(ledger.open) == 2
    assert decide(ledger, None, digest=digest).approval == 2
    assert decide(ledger, 1, digest="a" * 8).approval == 1


def test_a_question_without_a_call_has_no_digest_to_name_it_by() -> None:
    """An answer with one was given for something else."""
    ledger = asked("sure")
    ledger.open[0].digest = None
    assert "is not about a call and has no digest" in (decide(ledger, 1, digest="a" * 8).refused or "")
    assert decide(ledger, 1).refused is None


def test_a_digest_that_two_calls_share_needs_the_number() -> None:
    ledger = asked("first", "second")
    assert "2 approvals have the digest d" in (decide(ledger, None, digest="d").refused or "")


def test_a_no_wins_until_the_answer_has_been_handed_to_the_turn() -> None:
    ledger = asked("only")
    yes = decide(ledger, 1, "y", by="ada")
    no = decide(ledger, 1, "n", by="bob", comment="wait")
    assert no.refused is None
    assert "by bob" in (yes.displaced or "")
    assert decide(ledger, 1, "y").refused, "a yes displaces nothing"
    assert decide(ledger, 1, "n").refused, "it is denied already"
    assert [response.response for response in ledger.take_answers()] == ["n"]
    assert decide(ledger, 1, "n").refused


def test_a_no_that_names_nothing_wins_over_the_answer_to_the_first_question() -> None:
    ledger = asked("only")
    decide(ledger, None, "y")
    assert decide(ledger, None, "n").refused is None
    assert [response.response for response in ledger.take_answers()] == ["n"]


def test_a_skip_wins_over_a_retry() -> None:
    ledger = Ledger()
    ledger.ask([question(1, "in-doubt", choices=["retry", "skip", "result"])], AT)
    decide(ledger, 1, "retry")
    assert decide(ledger, 1, "skip").refused is None
    assert [response.response for response in ledger.take_answers()] == ["skip"]


@pytest.mark.parametrize(
    "response",
    [
        *["no, do not pay", "ok", "what?", "", "y n", "no problem, go ahead", ["n"], ["y"], 1, 0, {}],
        *[{"type": "edit"}, {"approve": "maybe"}, {"type": "approve", "args": {"amount": 9}}],
        {"approve": True, "input": {}},
    ],
)
def test_what_is_no_plain_answer_decides_nothing_about_a_call(response: Any) -> None:
    ledger = Ledger()
    ledger.ask([question(1, strict=True)], AT)
    assert 'takes a plain yes or no, such as "y" or "n"' in (decide(ledger, 1, response).refused or "")
    assert len(ledger.open) == 1


@pytest.mark.parametrize(
    ("response", "delivered", "denied"),
    [
        ("y", "y", False),
        ("Yes", "Yes", False),
        (" yes! ", "yes", False),
        ("\N{LEFT DOUBLE QUOTATION MARK}yes\N{RIGHT DOUBLE QUOTATION MARK}", "yes", False),
        ("No.", "no", True),
        ("'n'", "n", True),
        ("nope", "nope", True),
        ({"type": "reject", "message": "too much"}, "n", True),
        ({"action": "approve"}, "y", False),
        ({"decision": "approve", "type": "reject"}, "n", True),
        ({"approve": True}, {"approve": True}, False),
        (False, False, True),
    ],
)
def test_plain_answers_reach_the_agent_in_a_form_that_hooks_know(response: Any, delivered: Any, denied: bool) -> None:
    ledger = Ledger()
    ledger.ask([question(1, strict=True)], AT)
    decision = decide(ledger, 1, response)
    assert (decision.refused, decision.denied, decision.response) == (None, denied, response)
    [handed_out] = ledger.take_answers()
    assert (type(handed_out.response), handed_out.response) == (type(delivered), delivered)


def test_an_answer_that_code_offers_decides_about_a_call() -> None:
    ledger = Ledger()
    ledger.ask([question(1, strict=True, options=[Option("once"), Option(2)])], AT)
    assert '"once", 2' in (decide(ledger, 1, "twice").refused or "")
    assert decide(ledger, 1, "2").refused, "a text is no number"
    assert decide(ledger, 1, "Once").refused is None
    assert [response.response for response in ledger.take_answers()] == ["once"]


def test_earlier_denials_of_the_same_call_stand_in_the_question() -> None:
    ledger = Ledger()
    ledger.ask([question(1)], AT)
    decide(ledger, 1, "n", by="ada", comment="not this month")
    ledger.take_answers()
    other = question(3)
    other.digest = "another"
    ledger.ask([question(2), other], AT)
    first, second = ledger.open
    assert first.denials == [Denial(1, AT, "ada", "not this month")]
    assert second.denials == []


def test_junk_pushes_no_decision_out() -> None:
    ledger = asked("first", "second")
    decide(ledger, 1, by="ada")
    for number in range(1_200):
        ledger.refuse([f"junk {number} " + "x" * 5_000], "It is junk. " * 500, AT, "signal respond")
    assert [decision.by for decision in ledger.decisions] == ["ada"]
    assert len(ledger.refusals) == KEPT_REFUSALS
    assert ledger.refused_count == 1_200
    assert len(json.dumps([asdict(refusal) for refusal in ledger.refusals])) < 200_000


@pytest.mark.parametrize("target", [2, "v1:tool:2", "second"])
def test_an_approval_is_named_by_number_id_or_name(target: int | str) -> None:
    assert decide(asked("first", "second"), target).approval == 2


def test_a_name_counts_only_while_one_approval_ever_had_it() -> None:
    """Whoever sends the name of the first may not have seen the second."""
    ledger = asked("same", "other", "same")
    several = "Several approvals of this run have been named 'same': send the number."
    assert decide(ledger, "same").refused == f"{several} Open: 1 (same), 2 (other), 3 (same)."
    decide(ledger, 1)
    assert decide(ledger, "same").refused == f"{several} Open: 2 (other), 3 (same)."
    assert decide(ledger, "other").approval == 2


def test_a_name_that_is_too_many_needs_the_number() -> None:
    ledger = Ledger()
    ledger.ask([question(n, f"name {n}") for n in range(1, KEPT_NAMES + 2)], AT)
    assert "Say the number" in (decide(ledger, f"name {KEPT_NAMES + 1}").refused or "")
    assert decide(ledger, KEPT_NAMES + 1).refused is None


def test_a_second_answer_is_refused_and_says_what_was_answered_and_by_whom() -> None:
    ledger = asked("only")
    decide(ledger, 1, "y", by="ada")
    assert decide(ledger, 1, "t").refused == f"Approval 1 was already answered 'y' by ada, {AT}. Nothing is open."
    told = f"Nothing is open to be answered. Approval 1 was answered 'y' by ada, {AT}."
    assert decide(ledger, None, "t").refused == told
    assert ledger.take_answers() == [Response("v1:tool:1", "y", "use1", "tool", {"n": 1})]
    assert ledger.take_answers() == []
    assert decide(ledger, 1, "n").refused


def test_what_was_decided_about_the_run_is_no_answer_to_an_approval() -> None:
    ledger = asked("only")
    decide(ledger, 1, "y", by="ada")
    ledger.record("retry", AT, "signal retry", by="bob", comment=None)
    told = f"Nothing is open to be answered. Approval 1 was answered 'y' by ada, {AT}."
    assert decide(ledger, None, "t").refused == told


def test_an_unknown_approval_is_refused_and_the_open_ones_are_listed() -> None:
    assert decide(asked("first"), 7).refused == "There is no open approval 7. Open: 1 (first)."
    assert decide(Ledger(), 7).refused == "There is no open approval 7. Nothing is open."
    assert decide(Ledger(), None).refused == "Nothing is open to be answered. No question has been asked yet."


def test_null_is_no_answer() -> None:
    ledger = asked("only")
    assert decide(ledger, 1, None).refused == "null is no answer."
    assert len(ledger.open) == 1


@pytest.mark.parametrize("response", ["rerun", " RERUN ", {"result": 0}])
def test_a_question_with_choices_takes_them(response: Any) -> None:
    ledger = Ledger()
    ledger.ask([question(1, choices=["rerun", "result"])], AT)
    assert decide(ledger, 1, response).refused is None


@pytest.mark.parametrize("response", ["y", "result", {"result": None}, {"result": 1, "more": 2}, 1, ["rerun"]])
def test_a_question_with_choices_takes_nothing_else(response: Any) -> None:
    ledger = Ledger()
    ledger.ask([question(1, choices=["rerun", "result"])], AT)
    assert 'takes "rerun", {"result": "..."}' in (decide(ledger, 1, response).refused or "")
    assert len(ledger.open) == 1


def test_answers_are_handed_out_by_number_and_not_by_the_time_they_came() -> None:
    ledger = asked("a", "b", "c")
    decide(ledger, 3, "third")
    decide(ledger, 1, "first")
    assert [response.response for response in ledger.take_answers()] == ["first", "third"]
    assert [approval.number for approval in ledger.open] == [2]


def test_an_answer_to_a_question_that_is_gone_is_not_delivered() -> None:
    ledger = asked("a", "b")
    decide(ledger, 1)
    ledger.ask([question(2, "b")], AT)
    assert ledger.take_answers() == []
    assert [approval.number for approval in ledger.open] == [2]


def test_a_reopened_approval_keeps_its_number_says_why_and_takes_another_answer() -> None:
    ledger = asked("only")
    decide(ledger, 1, 5)
    ledger.take_answers()
    ledger.reopen("'int' object has no attribute 'lower'")
    assert [(a.number, a.error) for a in ledger.open] == [(1, "'int' object has no attribute 'lower'")]
    assert decide(ledger, 1, "yes").refused is None
    assert [response.response for response in ledger.take_answers()] == ["yes"]


def test_answers_that_no_turn_can_carry_are_refused() -> None:
    """The run would be stuck with them for ever."""
    ledger = asked("first", "second", "third")
    ledger.make_room(1_500)
    assert decide(ledger, 1, "x" * 700).refused is None
    refused = decide(ledger, 2, "y" * 700).refused or ""
    assert re.fullmatch(
        r"With what was asked it has 8\d\d characters of JSON, .* room for 6\d\d after the 1 .*", refused
    )
    assert decide(ledger, 3, "z").refused is None
    assert [approval.number for approval in ledger.open] == [2]


def test_answers_that_came_while_the_conversation_grew_are_refused_if_there_is_no_room_left() -> None:
    """The latest first; their approvals are open again."""
    ledger = asked("first", "second", "third")
    for number in (2, 1, 3):
        assert decide(ledger, number, "x" * 700).refused is None
    ledger.make_room(1_000)
    assert [approval.number for approval in ledger.open] == [1, 3]
    assert [decision.approval for decision in ledger.decisions] == [2]
    assert [decision.approval for decision in ledger.refusals] == [3, 1]
    assert ledger.refused_count == 2
    assert [response.id for response in ledger.take_answers()] == ["v1:tool:2"]


def test_answers_given_together_are_judged_together() -> None:
    """Two answers to one approval in one list: the list would be refused, so that nothing of it is applied."""
    ledger = asked("first", "second")
    together = [Answer(1, "n"), Answer(1, "y"), Answer(2, "y")]
    assert len(ledger.objections(together)) == 1
    assert len(ledger.open) == 2
    assert ledger.objections([together[0], together[2]]) == []


def test_an_answer_that_the_agent_no_longer_asks_for_is_not_shown_as_applied() -> None:
    ledger = asked("first", "second")
    decide(ledger, 1)
    ledger.take_answers()
    late = decide(ledger, 2)
    ledger.ask([], AT)
    assert late.refused == "Too late: the agent has withdrawn this question."
    assert late not in ledger.decisions
    assert ledger.refused_count == 1
    assert not ledger.has_answers


def test_a_key_counts_once_for_refusals_too() -> None:
    ledger = asked("only")
    first = decide(ledger, 9, key="k")
    assert first.refused
    assert decide(ledger, 9, key="k") is first
    assert ledger.refused_count == 1


@pytest.mark.parametrize(("target", "response"), [(2, "y"), (1, "n"), (1, True), (None, "y")])
def test_a_key_that_comes_with_another_answer_is_refused(target: int | None, response: Any) -> None:
    """A sender that uses a key twice hears of it, where the second answer would be lost in silence."""
    ledger = asked("first", "second")
    applied = decide(ledger, 1, "y", key="k")
    second = decide(ledger, target, response, key="k")
    assert "Its key came with another answer before, which answered approval 1: 'y'" in (second.refused or "")
    assert [approval.number for approval in ledger.open] == [2]
    assert decide(ledger, 1, "y", key="k") is applied


def test_a_refusal_is_short_whatever_it_speaks_of() -> None:
    """A hundred of them must fit into a run's result."""
    ledger = asked(*("\U0001f600" * 400 + str(n) for n in range(20)))
    refused = decide(ledger, 99, "\U0001f600" * 10_000)
    assert len(json.dumps(asdict(refused))) < 15_000


def test_refusals_are_counted_but_only_the_latest_are_kept() -> None:
    ledger = asked("only")
    decide(ledger, 1, "y")
    for number in range(KEPT_REFUSALS + 20):
        decide(ledger, 1000 + number)
    assert ledger.refused_count == KEPT_REFUSALS + 20
    assert [d.refused for d in ledger.decisions] == [None]
    kept = [decision.refused or "" for decision in ledger.refusals]
    assert len(kept) == KEPT_REFUSALS
    assert ("1020" in kept[0], "1119" in kept[-1]) == (True, True)


@pytest.mark.parametrize("response", ["\ud800", [float("nan")], "x" * 10_000])
def test_what_was_refused_is_shown_as_far_as_it_can_be(response: Any) -> None:
    ledger = asked("only")
    shown = ledger.refuse(response, "no", AT, "signal respond").response
    assert isinstance(shown, str)
    assert len(json.dumps(shown, ensure_ascii=False, allow_nan=False).encode()) < 700


def test_a_refused_answer_of_any_depth_can_be_recorded() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = {"a": deep}
    ledger = asked("only")
    ledger.refuse([deep], "no", AT, "signal respond")
    json.dumps(asdict(ledger), allow_nan=False)


@pytest.mark.parametrize(
    ("failed", "ran", "open_again"),
    [
        ([], [], [1, 2, 3]),
        (["use2"], [], [2]),
        ([], ["use1"], [2, 3]),
        (["use2"], ["use1"], [2]),
        (["use1"], ["use1"], [2, 3]),
        ([], ["use1", "use2", "use3"], []),
    ],
)
def test_only_what_may_have_failed_opens_again(failed: list[str], ran: list[str], open_again: list[int]) -> None:
    """What has run is not asked about again, and neither is what is known to have been answered well."""
    ledger = asked("a", "b", "c")
    for number in (1, 2, 3):
        decide(ledger, number)
    ledger.take_answers()
    assert ledger.reopen("it failed", failed=failed, ran=ran) == [f"v1:tool:{number}" for number in open_again]
    assert [approval.number for approval in ledger.open] == open_again
    for number in open_again:
        assert not decide(ledger, number).refused
    ledger.take_answers()
    assert ledger.reopen("again") == [
        f"v1:tool:{n}" for n in [n for n in (1, 2, 3) if n not in open_again] + open_again
    ]


def test_objections_to_several_answers_say_what_is_open_now() -> None:
    """Not what would be open once the first of them is taken; and what is in one message was not answered before."""
    ledger = asked("approve")
    [objection] = ledger.objections([Answer(1, "y"), Answer(2, "y")])
    assert "There is no open approval 2" in objection
    assert "Open: 1 (approve)" in objection
    [objection] = ledger.objections([Answer(1, "y", by="ann"), Answer(1, "y", by="ann")])
    assert "already answered 'y' by ann, in this very message" in objection
