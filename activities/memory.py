"""Activities that move whole conversations: into the next execution of a run, and from and to its session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from strands.types._snapshot import Snapshot
from temporalio import activity
from temporalio.exceptions import ApplicationError

from abeyance import formats
from abeyance.contracts import (
    CARRY,
    LOAD_SESSION,
    SAVE_SESSION,
    JsonObject,
    Origin,
    SessionFacts,
    SessionRead,
    SessionWrite,
    Whole,
)
from abeyance.errors import NewerFormatError, SessionDamagedError
from abeyance.origins import MOST, ORIGINS, entries, unchanged
from abeyance.sessions import Sessions
from abeyance.shortened import shortened
from activities.callers import require_caller
from activities.conversations import NOTHING, Conversation, Conversations, packed
from activities.failures import as_application_error
from activities.faults import Faults
from activities.found_records import tried_elsewhere
from activities.room import ADVICE, LARGEST_PACKED

USED_IDS = "abeyance_used_ids"
"""Where a stored snapshot keeps the tool-use ids that a provider may use again."""
ASKED = "abeyance_asked"
"""Where it keeps the tools that people were asked about: trust that lives on in a session lets their calls pass."""
REMEMBERED_CHARACTERS = 2_000
"""Of the agent's state, as a run tells what it has found in its session."""


class Memory:
    """What one worker does with whole conversations.

    Args:
        conversations: those that are at hand.
        sessions: where sessions are kept.
        faults: for tests.
        stored_elsewhere: whether what is too large for Temporal is kept beside it.
    """

    def __init__(self, conversations: Conversations, sessions: Sessions, faults: Faults, *, stored_elsewhere: bool):
        self._conversations, self._sessions, self._faults = conversations, sessions, faults
        self._stored_elsewhere = stored_elsewhere

    @activity.defn(name=CARRY)
    async def carry(self, conversation: str) -> Whole:
        """Make one piece of a conversation, for a history that does not hold its parts.

        Args:
            conversation: its name.
        """
        execution = require_caller()
        async with _told():
            found = await self._found(conversation, execution)
            whole = NOTHING.then(found.whole())
            self._conversations.keep(whole)
            self._conversations.drop(conversation)
            return Whole(whole.id, await asyncio.to_thread(packed, whole), self._stored_elsewhere)

    @activity.defn(name=LOAD_SESSION)
    async def load_session(self, session: str, agent: str) -> SessionRead:
        """Read what an agent remembers in a session.

        Args:
            session: its name.
            agent: the agent's registered name.
        """
        require_caller(session=session)
        async with _told():
            stored = await self._sessions.load(session, agent)
            if stored is None:
                return SessionRead(SessionFacts(session))
            if stored.interrupted:
                raise SessionDamagedError(
                    f"Session {session!r} of {agent!r} was left with questions open by another program, so it takes "
                    "answers and no prompt. Answer them there, or remove it with `sessions forget`."
                )
            whole = NOTHING.then(_delta(stored.snapshot))
            text = await asyncio.to_thread(packed, whole)
            if len(text) > LARGEST_PACKED and not self._stored_elsewhere:
                raise SessionDamagedError(
                    f"Session {session!r} of {agent!r} has {len(text)} bytes, compressed, and a run's history takes "
                    f"{LARGEST_PACKED}. {ADVICE}."
                )
        self._conversations.keep(whole)
        remembers = shortened(stored.state, REMEMBERED_CHARACTERS)
        facts = SessionFacts(
            name=session,
            version=stored.version,
            found=len(stored.messages),
            remembers=remembers if isinstance(remembers, dict) else {"…": remembers},
            conversation=whole.id,
            origins=dict([(name, origin) for name, origin in stored.origins.items() if origin.answers][:MOST]),
            unknown=stored.unknown[:MOST],
        )
        return SessionRead(facts, whole.id, text)

    @activity.defn(name=SAVE_SESSION)
    async def save_session(self, write: SessionWrite) -> str:
        """Write what an agent remembers into a session; a repetition finds it done. Returns the new version."""
        execution = require_caller(session=write.session)
        async with _told():
            found = await self._found(write.conversation, execution)
            snapshot = _snapshot(found)
            snapshot["app_data"] |= {ORIGINS: await self._origins(write, snapshot, execution)}
            self._faults.at("about to save")
            version = await self._sessions.save(
                write.session,
                write.agent,
                snapshot,
                after=write.after,
                mark=write.mark,
                overwrite=write.overwrite,
            )
            self._faults.at("saved")
        self._conversations.drop(write.conversation)
        return version

    async def _origins(self, write: SessionWrite, snapshot: JsonObject, execution: tuple[str, str]) -> JsonObject:
        """What is to be kept of where the state's values come from."""
        state, known = snapshot["data"].get("state") or {}, write.origins
        try:
            if write.after is not None and (stored := await self._sessions.load(write.session, write.agent)):
                known = unchanged(stored.origins, stored.state, state) | known
        except SessionDamagedError:
            if not write.overwrite:
                raise
        own = Origin(*execution, None, datetime.now(UTC).isoformat(timespec="seconds"))
        return entries(state, known, own)

    async def _found(self, conversation: str, execution: tuple[str, str]) -> Conversation:
        return await self._conversations.find(conversation, activity.client(), *execution)


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Tell Temporal that this activity is alive, and what it raises: to be retried, or told to a person."""
    beating = asyncio.create_task(_beat())
    try:
        yield
    except OSError as error:
        # A disk that is full or a mount that is away: somebody sees to that, and the run waits for it.
        raise ApplicationError(f"{type(error).__name__}: {error}", type="Storage") from error
    except ApplicationError:
        raise
    except NewerFormatError as error:
        raise tried_elsewhere(error) or as_application_error(error, activity.info().attempt) from error
    except Exception as error:
        raise as_application_error(error, activity.info().attempt) from error
    finally:
        beating.cancel()


async def _beat() -> None:
    timeout = activity.info().heartbeat_timeout
    while timeout:
        activity.heartbeat()
        await asyncio.sleep(timeout.total_seconds() / 3)


def _delta(snapshot: JsonObject) -> JsonObject:
    """The delta that makes a stored snapshot of nothing."""
    data = {name: value for name, value in snapshot["data"].items() if name != "messages"}
    noted = snapshot.get("app_data") or {}
    used_ids, asked = noted.get(USED_IDS), noted.get(ASKED)
    delta: JsonObject = {
        "messages": snapshot["data"].get("messages") or [],
        "data": data,
        "used_ids": used_ids if isinstance(used_ids, list) else [],
        "schema_version": snapshot["schema_version"],
        "format": formats.FORMAT,
    }
    if isinstance(asked, list) and asked:
        delta["asked"] = [tool for tool in asked if isinstance(tool, str)]
    return delta


def _snapshot(conversation: Conversation) -> JsonObject:
    """A conversation as a snapshot of Strands that is to be stored."""
    noted = {USED_IDS: list(conversation.used_ids), ASKED: list(conversation.asked)}
    app_data = {name: value for name, value in noted.items() if value}
    snapshot = Snapshot(
        scope="agent",
        schema_version=conversation.schema_version,
        data={"messages": conversation.parsed()} | conversation.data,
        app_data=app_data,
    )
    return snapshot.to_dict()
