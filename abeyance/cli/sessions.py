"""The commands for what agents remember between runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli._shared import Json, age, brief, call, fail, say, say_json, settings, starter, table
from abeyance.errors import ConfigurationError, NotFoundError, RefusedError

if TYPE_CHECKING:
    from abeyance.sessions import Sessions, StoredSession

Name = Annotated[str, typer.Argument(metavar="NAME", help="The session's name.")]
Agent = Annotated[str | None, typer.Option(help="Only what this agent remembers.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(sessions)
    for name, command in (("list", list_), ("show", show), ("forget", forget)):
        group.command(name)(command)
    app.add_typer(group, name="sessions")


def sessions(context: typer.Context, json_: Json = False) -> None:
    """What agents remember between runs; alone, the same as `sessions list`."""
    if context.invoked_subcommand is None:
        list_(json_)
    elif json_:
        fail(f"--json goes to the end: sessions {context.invoked_subcommand} … --json", 2)


def list_(json_: Json = False) -> None:
    """List what is remembered: sessions, and their agents."""

    async def work() -> None:
        found = await _sessions().listed()
        if json_:
            say_json(found)
        elif not found:
            say(f"Nothing is remembered in {settings().sessions}.")
        else:
            rows = [(i.name, i.agent, _size(i.size), f"{age(i.written_at)} ago") for i in found]
            table(("session", "agent", "size", "written"), rows)

    call(work)


def show(name: Name, agent: Agent = None, json_: Json = False) -> None:
    """Tell what a session remembers: how much conversation, since which run, and which values, such as trust."""

    async def work() -> None:
        store = _sessions()
        infos = await store.listed(name)
        loaded = [await store.load(name, info.agent) for info in infos if agent in (None, info.agent)]
        found = [stored for stored in loaded if stored]
        if not found:
            raise _none(name, agent)
        if json_:
            say_json({"session": name, "agents": [_as_json(stored) for stored in found]})
            return
        say(f"{name}:")
        for stored in found:
            by = f"by {stored.written_by}" if stored.written_by else "by a program without a mark"
            say(
                f"  {stored.agent}: {len(stored.messages)} messages, {_size(stored.size)}, "
                f"written {age(stored.written_at)} ago ({stored.written_at}) {by}",
                hang=4,
            )
            if stored.interrupted:
                say("    It was left with a question open, which only the program that asked can go on from.", hang=4)
            for key, value in stored.state.items():
                say(f"    {key}: {brief(value)}", hang=6)
                say(f"      {_origin(stored, key)}", hang=8)

    call(work)


def forget(
    name: Name,
    agent: Agent = None,
    key: Annotated[str | None, typer.Option(help="Only this value, e.g. a trust, as `sessions show` names it.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask whether a run of the session is open.")
    ] = False,
    json_: Json = False,
) -> None:
    """Forget a session, or one value of it. Refused while a run of it is open, which would remember it all again."""

    async def work() -> None:
        store = _sessions()
        stored = await store.listed(name)
        if not offline:
            await _refuse_while_open(name)
        if key is None:
            if not await store.forget(name, agent):
                raise _none(name, agent)
        else:
            agents = [info.agent for info in stored if agent in (None, info.agent)]
            if not agents:
                raise _none(name, agent)
            if not any([await store.forget_state(name, each, key) for each in agents]):
                raise NotFoundError(
                    f"Session {name!r} holds no value {key!r}. `sessions show {name}` shows what it does."
                )
        if json_:
            say_json({"session": name, "agent": agent, "key": key, "forgotten": True})
        else:
            of = f" of {agent}" if agent else ""
            say(f"Forgot {f'{key} in ' if key else ''}session {name}{of}.")

    call(work)


def _origin(stored: StoredSession, key: str) -> str:
    if key in stored.unknown:
        return "No run has written it as it stands: a run that begins with it asks a person first."
    if origin := stored.origins.get(key):
        from abeyance.origins import told

        return f"It was {told(origin)}."
    return "It was written before origins were kept."


async def _refuse_while_open(name: str) -> None:
    from abeyance.connection import connect
    from abeyance.contracts import OPEN
    from abeyance.runs import Runs
    from abeyance.session_names import session_run_id

    try:
        client = await connect(settings())
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error} Nothing was forgotten, as a run of session {name!r} may be open. If none is, add --offline."
        ) from error
    run = session_run_id(name)
    try:
        state = (await Runs(client, settings().task_queue).summary(run)).state
    except NotFoundError:
        return
    if state in OPEN:
        raise RefusedError(
            f"Run {run!r} of session {name!r} is {state}, and will save what it remembers when it ends. "
            f"Wait for its end, or end it with `cancel {run}`."
        )


def _sessions() -> Sessions:
    from abeyance.sessions import Sessions

    return Sessions(settings().sessions)


def _none(name: str, agent: str | None) -> NotFoundError:
    of = f" of {agent!r}" if agent else ""
    return NotFoundError(
        f"There is no session {name!r}{of} in {settings().sessions}. `{starter()} sessions` lists those there are."
    )


def _as_json(stored: StoredSession) -> dict[str, object]:
    fields = asdict(stored)
    del fields["snapshot"], fields["name"]
    return fields | {"messages": len(stored.messages), "state": stored.state, "interrupted": stored.interrupted}


def _size(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= 1_000_000 else f"{size / 1_000:.1f} kB"
