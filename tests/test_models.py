"""The models without a network: pure functions of the conversation, and real Strands models all the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from strands import Agent, tool
from strands.models import Model
from strands.types.content import ContentBlock, Message, Messages
from strands.types.tools import ToolSpec

from abeyance import OfflineModel, ScriptedModel, ToolCall
from abeyance.errors import ConfigurationError
from abeyance.models import build_model
from abeyance.models.scripted import Reply
from agents._tools import delete_files, inspect_files


def spec(name: str, description: str = "Does it.", required: list[str] | None = None, **properties: str) -> ToolSpec:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties) if required is None else required,
    }
    return {"name": name, "description": description, "inputSchema": {"json": schema}}


INSPECT, DELETE = spec("inspect_files", paths="array"), spec("delete_files", "Delete files.\nFor good.", paths="array")
FILES = [INSPECT, DELETE]


def said(text: str) -> Message:
    return {"role": "user", "content": [{"text": text}]}


def calls(content: list[ContentBlock]) -> list[tuple[str, dict[str, Any]]]:
    return [(block["toolUse"]["name"], block["toolUse"]["input"]) for block in content if "toolUse" in block]


def ids(content: list[ContentBlock]) -> list[str]:
    return [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]


def texts(content: list[ContentBlock]) -> str:
    return "\n".join(block["text"] for block in content if "text" in block)


def results(content: list[ContentBlock], *outcomes: str) -> Message:
    """What Strands answers to the calls in `content`; an outcome that starts with "!" is an error."""
    blocks: list[ContentBlock] = [
        {
            "toolResult": {
                "toolUseId": use_id,
                "status": "error" if outcome.startswith("!") else "success",
                "content": [{"text": outcome.removeprefix("!")}],
            }
        }
        for use_id, outcome in zip(ids(content), outcomes, strict=True)
    ]
    return {"role": "user", "content": blocks}


def compose(messages: Messages, specs: list[ToolSpec] | None = None) -> list[ContentBlock]:
    return OfflineModel().compose(messages, FILES if specs is None else specs, None)


def deletions(request: str) -> list[list[str]]:
    """What a request deletes, group by group."""
    found = calls(compose([said(request)], [DELETE]))
    assert {name for name, _ in found} <= {"delete_files"}
    return [arguments["paths"] for _, arguments in found]


@pytest.mark.parametrize(
    ("request_", "groups"),
    [
        ("Delete a.txt", [["a.txt"]]),
        ("please remove a.txt and b.txt.", [["a.txt", "b.txt"]]),
        ("Delete a.txt, b.txt and sub/c.txt!", [["a.txt", "b.txt", "sub/c.txt"]]),
        ("Delete a.txt and b.txt; delete c.txt", [["a.txt", "b.txt"], ["c.txt"]]),
        ("Delete a.txt. Then delete b.txt", [["a.txt"], ["b.txt"]]),
        ("Delete a.txt then b.txt also c.txt", [["a.txt"], ["b.txt"], ["c.txt"]]),
        ("Delete:\na.txt\nb.txt", [["a.txt"], ["b.txt"]]),
        ("Delete the file README", [["README"]]),
        ("Delete README and LICENSE please", [["README", "LICENSE"]]),
        ('Delete "my report.txt" and "b c"', [["my report.txt", "b c"]]),
        ("Delete 'my report.txt'", [["my report.txt"]]),
        ("Delete `x y.txt`", [["x y.txt"]]),
        ('Delete "one; two. three then four.txt"', [["one; two. three then four.txt"]]),
        ('Delete "Bob\'s list.txt"', [["Bob's list.txt"]]),
        ("Delete Bob's.txt and Ann's.txt", [["Bob's.txt", "Ann's.txt"]]),
        ("Delete then.txt", [["then.txt"]]),
        ("Delete also/this.txt", [["also/this.txt"]]),
        ("Delete .env", [[".env"]]),
        ("Delete ./a.txt (and ../b)", [["./a.txt", "../b"]]),
        ("Delete ..", [[".."]]),
        ("rm -f a.txt", [["a.txt"]]),
    ],
)
def test_a_request_deletes_what_it_names_and_nothing_else(request_: str, groups: list[list[str]]) -> None:
    assert deletions(request_) == groups


@pytest.mark.parametrize("name", ["list.txt", "check.txt", "show", "read.me", "inspect/it.txt", "'look here'"])
def test_a_file_whose_name_is_a_verb_is_still_deleted(name: str) -> None:
    messages: Messages = [said(f"Delete {name}")]
    look = compose(messages)
    messages += [{"role": "assistant", "content": look}, results(look, "seen")]
    assert calls(compose(messages)) == [("delete_files", {"paths": [name.strip("'")]})]


def test_it_looks_then_acts_on_all_groups_in_one_message_then_reports() -> None:
    messages: Messages = [said("Delete a.txt and b.txt; delete c.txt")]
    look = compose(messages)
    assert calls(look) == [("inspect_files", {"paths": ["a.txt", "b.txt", "c.txt"]})]
    messages += [{"role": "assistant", "content": look}, results(look, "three files")]
    act = compose(messages)
    assert calls(act) == [("delete_files", {"paths": ["a.txt", "b.txt"]}), ("delete_files", {"paths": ["c.txt"]})]
    messages += [{"role": "assistant", "content": act}, results(act, "Deleted.", "!denied")]
    assert compose(messages) == [{"text": "delete_files: Deleted.\ndelete_files was not done: denied"}]


def test_it_does_not_look_twice_when_it_is_asked_to_look() -> None:
    messages: Messages = [said("Inspect a.txt")]
    look = compose(messages)
    assert calls(look) == [("inspect_files", {"paths": ["a.txt"]})]
    messages += [{"role": "assistant", "content": look}, results(look, "a file")]
    assert compose(messages) == [{"text": "inspect_files: a file"}]


def test_tool_use_ids_are_unique_and_the_same_for_the_same_conversation() -> None:
    request = [said("Delete a.txt; delete a.txt; delete a.txt")]
    first = compose(request, [DELETE])
    assert len(set(ids(first))) == 3
    again: Messages = copy.deepcopy(request)
    again[0]["metadata"] = {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}}
    assert compose(again, [DELETE]) == first
    later: Messages = [*request, {"role": "assistant", "content": first}, results(first, "1", "2", "3")]
    later += [{"role": "assistant", "content": [{"text": "Done."}]}, *request]
    assert set(ids(compose(later, [DELETE]))).isdisjoint(ids(first))


@given(st.text(), st.lists(st.sampled_from([INSPECT, DELETE, spec("pay", amount="number", to="string")]), max_size=3))
def test_any_text_has_a_reply_and_always_the_same(request: str, specs: list[ToolSpec]) -> None:
    reply = compose([said(request)], specs)
    assert reply == compose([said(request)], specs)
    assert texts(reply).strip()
    assert {name for name, _ in calls(reply)} <= {each["name"] for each in specs}
    assert len(set(ids(reply))) == len(ids(reply))


def test_a_second_request_in_one_conversation_is_worked_on_by_itself() -> None:
    messages: Messages = [said("Delete a.txt")]
    for outcome in ("seen", "Deleted a.txt."):
        content = compose(messages)
        messages += [{"role": "assistant", "content": content}, results(content, outcome)]
    messages += [{"role": "assistant", "content": compose(messages)}, said("Delete b.txt")]
    for expected in ("inspect_files", "delete_files"):
        content = compose(messages)
        assert calls(content) == [(expected, {"paths": ["b.txt"]})]
        messages += [{"role": "assistant", "content": content}, results(content, "ok")]
    assert compose(messages) == [{"text": "delete_files: ok"}]


@pytest.mark.parametrize("request_", ["Sing a song", "Delete", "", "Delete the files"])
def test_a_request_that_fits_no_tool_is_told_what_there_is(request_: str) -> None:
    reply = compose([said(request_)])
    assert calls(reply) == []
    assert "delete_files: Delete files." in texts(reply)
    assert "For good" not in texts(reply)


def test_without_tools_it_says_so() -> None:
    assert compose([said("Delete a.txt")], []) == [
        {"text": "I found nothing in that request that I can do. I have no tools here, so I can only say so."}
    ]
    assert "no tools" in texts(compose([], []))


def test_a_tool_without_a_description_is_listed_too() -> None:
    assert "mystery:" in texts(compose([said("hello")], [spec("mystery", "", paths="array")]))


def test_arguments_are_filled_by_their_types() -> None:
    pay = spec("pay", amount="number", to="string")
    assert calls(compose([said("Pay 12.50 to alice")], [pay])) == [("pay", {"amount": 12.5, "to": "alice"})]
    assert calls(compose([said("transfer 7 to bob")], [pay])) == [("pay", {"amount": 7, "to": "bob"})]
    assert calls(compose([said("pay alice")], [pay])) == [], "a required number is missing"


def test_the_offline_model_works_in_a_strands_agent(workspace: Path) -> None:
    agent = Agent(
        model=OfflineModel(), tools=[inspect_files(workspace), delete_files(workspace)], callback_handler=None
    )
    result = agent("Delete a.txt and b.txt; delete c.txt")
    assert {path.name for path in workspace.iterdir()} == {"d.txt"}
    assert result.stop_reason == "end_turn"
    assert str(result).strip() == "delete_files: Deleted a.txt, b.txt.\ndelete_files: Deleted c.txt."
    assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 3
    assert str(agent("Delete d.txt")).strip() == "delete_files: Deleted d.txt."
    assert list(workspace.iterdir()) == []


def test_the_same_agent_says_the_same_with_the_same_ids(tmp_path: Path) -> None:
    conversations = []
    for name in ("one", "two"):
        root = tmp_path / name
        root.mkdir()
        (root / "a.txt").write_text("x")
        agent = Agent(model=OfflineModel(), tools=[delete_files(root)], callback_handler=None)
        agent("Delete a.txt")
        conversations.append([(message["role"], message["content"]) for message in agent.messages])
    assert conversations[0] == conversations[1]


@pytest.mark.parametrize("model", [OfflineModel(), ScriptedModel(["", "x"])], ids=["offline", "scripted"])
@pytest.mark.parametrize("prompt", ["a", "Delete a.txt"])
async def test_events_are_those_of_the_converse_api(model: Model, prompt: str) -> None:
    events = [event async for event in model.stream([said(prompt)], [DELETE])]
    kinds = [next(iter(event)) for event in events]
    assert (kinds[0], kinds[-2:]) == ("messageStart", ["messageStop", "metadata"])
    assert kinds.count("contentBlockStart") == kinds.count("contentBlockStop")
    uses = [event for event in events if "toolUse" in event.get("contentBlockStart", {}).get("start", {})]
    assert events[-2]["messageStop"]["stopReason"] == ("tool_use" if uses else "end_turn")
    usage = events[-1]["metadata"]["usage"]
    assert usage["inputTokens"] > 0
    assert usage["outputTokens"] > 0
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]


async def test_tokens_are_counted_even_where_there_is_nothing_to_count() -> None:
    usage = [event async for event in ScriptedModel([[]]).stream([])][-1]["metadata"]["usage"]
    assert (usage["inputTokens"], usage["outputTokens"]) == (1, 1)


def test_scripted_replies_depend_on_the_messages_alone() -> None:
    script: list[Reply] = ["Let me look.", [ToolCall("pay", {"amount": 5}), ToolCall("pay", {"amount": 5})], "Paid."]
    messages: Messages = [said("go")]
    replies = []
    for _ in script:
        content = ScriptedModel(script).compose(messages, [], None)
        assert content == ScriptedModel(script).compose(copy.deepcopy(messages), [DELETE], "another prompt")
        replies.append(content)
        messages += [{"role": "assistant", "content": content}, said("on")]
    assert [texts(reply) for reply in replies] == ["Let me look.", "", "Paid."]
    assert calls(replies[1]) == [("pay", {"amount": 5})] * 2
    assert len(set(ids(replies[1]))) == 2
    assert replies[0] == ScriptedModel(script).compose(messages[:1], [], None), "asking again changes nothing"


def test_a_tool_call_may_bring_its_id() -> None:
    assert ids(ScriptedModel([ToolCall("pay", {}, "mine")]).compose([said("go")], [], None)) == ["mine"]


def test_the_same_script_position_in_another_conversation_has_another_id() -> None:
    model = ScriptedModel([ToolCall("pay")])
    assert ids(model.compose([said("one")], [], None)) != ids(model.compose([said("two")], [], None))


def test_a_script_that_runs_out_says_so() -> None:
    messages: Messages = [said("go"), {"role": "assistant", "content": [{"text": "one"}]}, said("more")]
    with pytest.raises(IndexError, match=r"has 1 replies and the conversation asks for number 2\. Add a reply"):
        ScriptedModel(["one"]).compose(messages, [], None)


def test_a_scripted_agent_runs_and_its_error_reaches_the_caller() -> None:
    paid = []

    @tool
    def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return f"paid {amount}"

    model = ScriptedModel([[ToolCall("pay", {"amount": 5}), ToolCall("pay", {"amount": 7})], "Paid."])
    agent = Agent(model=model, tools=[pay], callback_handler=None)
    assert str(agent("go")).strip() == "Paid."
    assert sorted(paid) == [5, 7]
    with pytest.raises(Exception, match="The script has 2 replies"):
        agent("again")


class Verdict(BaseModel):
    good: bool


def test_what_the_local_models_do_not_offer_is_refused_with_words() -> None:
    model = OfflineModel()
    assert model.get_config() == {"model_id": "offline"}
    model.update_config()
    with pytest.raises(TypeError, match="OfflineModel has no configuration, so not temperature"):
        model.update_config(temperature=1)
    with pytest.raises(NotImplementedError, match="structured_output_model"):
        model.structured_output(Verdict, [said("go")])


def test_the_default_model_is_the_offline_one() -> None:
    assert isinstance(build_model("offline"), OfflineModel)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("gpt", "Unknown model 'gpt'.*bedrock"),
        ("offline:x", "Unknown model 'offline:x'"),
        ("bedrock", "lacks the model id: write bedrock:<model id>"),
        ("bedrock:", "lacks the model id"),
    ],
)
def test_a_model_that_is_none_is_refused_with_words(setting: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build_model(setting)
