"""Registering agents, and finding the modules that do so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from abeyance import registry
from abeyance.errors import ConfigurationError, UnknownAgentError
from abeyance.registry import agent, find_agent, load_agents

AGENT = """
from abeyance import agent

@agent({name!r}, description="about {name}")
def {function}(context):
    raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registrations", {})


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that Python imports from, and forgets again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def write(path: Path, name: str, function: str = "build") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(AGENT.format(name=name, function=function))


def test_an_agent_is_registered_under_its_name(modules: Path) -> None:
    write(modules / "single_agents.py", "single")
    found = load_agents(["single_agents"])
    assert list(found) == ["single"]
    assert (found["single"].name, found["single"].description) == ("single", "about single")
    assert find_agent(found, "single").origin == "single_agents.build"


def test_a_package_brings_its_public_modules_and_not_its_private_ones(modules: Path) -> None:
    write(modules / "many_agents/__init__.py", "at-the-top")
    write(modules / "many_agents/one.py", "one")
    write(modules / "many_agents/two/__init__.py", "two")
    write(modules / "many_agents/_hidden.py", "hidden")
    assert set(load_agents(["many_agents"])) == {"at-the-top", "one", "two"}


def test_several_modules_are_loaded_once_and_together(modules: Path) -> None:
    write(modules / "first_agents.py", "first")
    write(modules / "second_agents.py", "second")
    assert set(load_agents(["first_agents", "second_agents", "first_agents"])) == {"first", "second"}


def test_two_modules_cannot_register_the_same_name(modules: Path) -> None:
    write(modules / "left_agents.py", "twin", "left")
    write(modules / "right_agents.py", "twin", "right")
    with pytest.raises(ConfigurationError, match=r"'twin' is registered twice, by left_agents\.left and right_agents"):
        load_agents(["left_agents", "right_agents"])


def test_one_module_cannot_register_the_same_name_twice(modules: Path) -> None:
    """As a copied factory would whose names were not changed."""
    (modules / "copied_agents.py").write_text(AGENT.format(name="copy", function="build") * 2)
    with pytest.raises(ConfigurationError, match="'copy' is registered twice"):
        load_agents(["copied_agents"])


def test_the_same_factory_may_be_registered_again() -> None:
    def build(context: Any) -> Any:
        raise NotImplementedError

    agent("again")(build)
    assert agent("again")(build) is build


@pytest.mark.parametrize("name", ["", " ", "two words", "ä", "a/b", "a\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no agent name"):
        agent(name)


def test_an_unknown_agent_is_named_and_the_known_are_listed(modules: Path) -> None:
    write(modules / "known_agents.py", "known")
    with pytest.raises(UnknownAgentError, match=r"Unknown agent 'unknown'\. This worker knows: known"):
        find_agent(load_agents(["known_agents"]), "unknown")


def test_a_module_that_is_not_there(modules: Path) -> None:
    with pytest.raises(ConfigurationError, match="'no_such_agents' cannot be imported: ModuleNotFoundError"):
        load_agents(["no_such_agents"])


@pytest.mark.parametrize("name", ["", ".relative"])
def test_what_is_no_module_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        load_agents([name])


@pytest.mark.parametrize(("code", "words"), [("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError")])
def test_a_module_that_fails_says_how(modules: Path, code: str, words: str) -> None:
    (modules / "bad_agents.py").write_text(code)
    with pytest.raises(ConfigurationError, match=f"'bad_agents' cannot be imported: {words}"):
        load_agents(["bad_agents"])


def test_a_bad_submodule_is_named(modules: Path) -> None:
    write(modules / "half_agents/__init__.py", "half")
    (modules / "half_agents/bad.py").write_text("1 / 0")
    with pytest.raises(ConfigurationError, match=r"'half_agents\.bad' cannot be imported"):
        load_agents(["half_agents"])


def test_nothing_registered_is_an_error_that_names_the_modules(modules: Path) -> None:
    (modules / "empty_agents.py").write_text("")
    with pytest.raises(ConfigurationError, match="No agent is registered by empty_agents"):
        load_agents(name for name in ["empty_agents"])
    with pytest.raises(ConfigurationError, match="No agent is registered by nothing"):
        load_agents([])
