"""Sessions: what an agent remembers between runs, kept as Strands' own `SnapshotSessionManager` keeps it."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from abeyance import formats
from abeyance.blobs import Blob, ChangedError, blobs_in
from abeyance.contracts import JsonObject, Origin
from abeyance.errors import NotFoundError, SessionConflictError, SessionDamagedError
from abeyance.formats import require_known
from abeyance.jsonable import from_strands
from abeyance.origins import ORIGINS, read_entries
from abeyance.places import Place
from abeyance.session_names import check_session_name

SETTING = "ABEYANCE_SESSIONS"
MARK = "abeyance"
"""The key of `app_data` in a snapshot under which it is kept who has written it."""
FORMATTED = "abeyance_format"
"""The key under which it is kept in which format that was."""
SCHEMA = "1.0"

_LATEST = re.compile(r"session/([^/]+)/scopes/agent/([^/]+)/snapshots/snapshot_latest\.json")


@dataclass(frozen=True)
class StoredSession:
    """What one agent remembers in one session.

    Attributes:
        name: the session's name.
        agent: the agent's registered name, which is its `agent_id` for Strands.
        snapshot: a Strands snapshot as `abeyance.jsonable` gives it, fit for `TurnInput.snapshot`. A system prompt that
            an ordinary program has stored is left out: the agent's own program says it.
        version: of what is stored; opaque.
        written_by: the mark that it was saved with; `None` if another program of Strands has written it.
        written_at: when, ISO 8601 in UTC.
        size: in bytes.
        origins: where the values of `state` come from that runs have written, by their names.
        unknown: the names of those that no run has written.
    """

    name: str
    agent: str
    snapshot: JsonObject
    version: str
    written_by: str | None
    written_at: str
    size: int
    origins: dict[str, Origin]
    unknown: list[str]

    @property
    def messages(self) -> list[Any]:
        """The conversation."""
        messages: list[Any] = self.snapshot["data"].get("messages") or []
        return messages

    @property
    def state(self) -> JsonObject:
        """What `agent.state` holds, trust included."""
        state: JsonObject = self.snapshot["data"].get("state") or {}
        return state

    @property
    def interrupted(self) -> bool:
        """Whether it was left with questions open, so that it takes answers and no prompt."""
        return bool((self.snapshot["data"].get("interrupt_state") or {}).get("activated"))


@dataclass(frozen=True)
class SessionInfo:
    """A session of an agent as lists show it: its size in bytes, and when it was written, ISO 8601 in UTC."""

    name: str
    agent: str
    size: int
    written_at: str


class Sessions:
    """The sessions in one place. Files and HTTP are worked on in threads.

    Every method raises `RequestError` for a name that `check_session_name` refuses, and `ConfigurationError` where the
    place cannot be used (access denied, no such bucket). Errors that may pass by themselves are raised as they are:
    `OSError`, and botocore's errors of connections and servers.

    Args:
        place: where they are kept; a directory need not exist.
    """

    def __init__(self, place: Place):
        self._blobs = blobs_in(place, SETTING)

    async def load(self, name: str, agent: str) -> StoredSession | None:
        """What the agent remembers in the session, or `None` if nothing is stored.

        Raises:
            SessionDamagedError: if what is stored cannot be read; the message says where it lies.
            NewerFormatError: if a newer version of Abeyance has written it.
        """
        key = _key(name, agent)
        blob = await asyncio.to_thread(self._blobs.read, key)
        return self._stored(name, agent, blob) if blob else None

    async def save(
        self, name: str, agent: str, snapshot: JsonObject, *, after: str | None, mark: str, overwrite: bool = False
    ) -> str:
        """Save what the agent remembers, unless somebody else has saved meanwhile.

        Saving again with the mark of what is stored changes nothing, so a save may be retried.

        Args:
            name: the session's name.
            agent: the agent's registered name.
            snapshot: a Strands snapshot of the preset "session", as `abeyance.jsonable` gives it.
            after: the version that was loaded; `None` if there was none.
            mark: who saves, e.g. "<run id>/<number>"; another one for each save.
            overwrite: save whatever is stored.

        Returns:
            The new version.

        Raises:
            SessionConflictError: if another version is stored than `after`; it is left as it is.
            SessionDamagedError: if another version is stored, and cannot be read.
            ValueError: if `snapshot` is none.
        """
        if flaw := _flaw(snapshot):
            raise ValueError(f"what is to be saved in session {name!r} is no snapshot: {flaw}")
        key = _key(name, agent)
        app_data = snapshot.get("app_data") or {}
        written = {"mark": mark, "written_at": datetime.now(UTC).isoformat(timespec="seconds")}
        data = json.dumps(snapshot | {"app_data": app_data | {MARK: written, FORMATTED: formats.FORMAT}}).encode()
        if overwrite and (there := await self._marked(key, mark)):
            return there
        try:
            return await asyncio.to_thread(self._blobs.write, key, data, after=after, overwrite=overwrite)
        except ChangedError:
            if there := await self._marked(key, mark):
                return there
            raise self._conflict(name, agent, await self.load(name, agent)) from None

    async def listed(self, name: str | None = None) -> list[SessionInfo]:
        """The sessions that are stored, sorted by name and agent; none is read.

        Args:
            name: only those of this name.
        """
        prefix = "session/" if name is None else _folder(name)
        entries = await asyncio.to_thread(self._blobs.entries, prefix)
        found = ((_LATEST.fullmatch(entry.key), entry) for entry in entries)
        return sorted(
            (SessionInfo(fits[1], fits[2], entry.size, entry.written_at) for fits, entry in found if fits),
            key=lambda info: (info.name, info.agent),
        )

    async def forget(self, name: str, agent: str | None = None) -> bool:
        """Remove all that is stored of the session, damaged or not, with what Strands keeps beside it.

        Args:
            name: the session's name.
            agent: only what this agent remembers.

        Returns:
            Whether there was anything.
        """
        whole = _folder(name)
        prefixes = [whole, f"context/{name}/"]
        if agent is not None:
            check_session_name(name, agent)
            prefixes = [f"{prefix}scopes/agent/{agent}/" for prefix in prefixes]
        return sum([await asyncio.to_thread(self._blobs.remove, prefix) for prefix in prefixes]) > 0

    async def forget_state(self, name: str, agent: str, key: str) -> bool:
        """Remove one value of `agent.state`, such as a trust, and leave all else.

        Returns:
            Whether there was such a value.

        Raises:
            NotFoundError: if there is no such session.
            SessionConflictError: if the session was saved at the same moment.
            SessionDamagedError: if it cannot be read.
        """
        blob = await asyncio.to_thread(self._blobs.read, _key(name, agent))
        if blob is None:
            raise NotFoundError(f"{agent!r} has no session {name!r}.")
        snapshot = self._snapshot(name, agent, blob)
        if key not in (snapshot["data"].get("state") or {}):
            return False
        del snapshot["data"]["state"][key]
        if isinstance(noted := _app_data(snapshot).get(ORIGINS), dict):
            noted.pop(key, None)
        await self.save(name, agent, snapshot, after=blob.version, mark=f"forget/{uuid.uuid4().hex[:8]}")
        return True

    async def _marked(self, key: str, mark: str) -> str | None:
        """The version of what is stored, if it has this mark."""
        blob = await asyncio.to_thread(self._blobs.read, key)
        try:
            stored = json.loads(blob.data) if blob else None
        except (ValueError, RecursionError):
            return None
        return blob.version if blob and _written(stored).get("mark") == mark else None

    def _stored(self, name: str, agent: str, blob: Blob) -> StoredSession:
        snapshot = self._snapshot(name, agent, blob)
        written, state = _written(snapshot), snapshot["data"].get("state") or {}
        origins, unknown = read_entries(state, _app_data(snapshot).get(ORIGINS), marked="mark" in written)
        return StoredSession(
            name=name,
            agent=agent,
            snapshot=snapshot | {"data": {k: v for k, v in snapshot["data"].items() if k != "system_prompt"}},
            version=blob.version,
            written_by=written.get("mark"),
            written_at=written.get("written_at") or snapshot["created_at"],
            size=len(blob.data),
            origins=origins,
            unknown=unknown,
        )

    def _snapshot(self, name: str, agent: str, blob: Blob) -> JsonObject:
        try:
            # Python reads NaN and its like, which are no JSON for anybody else.
            found = from_strands(json.loads(blob.data, parse_constant=lambda word: repr(float(word))))
            flaw = _flaw(found)
        except (ValueError, RecursionError) as error:
            flaw = f"{type(error).__name__}: {error}"
        if flaw:
            where = self._blobs.where(_key(name, agent))
            raise SessionDamagedError(
                f"Session {name!r} of {agent!r} cannot be read: {where} is no snapshot of Strands that this version "
                f"knows ({flaw}). Put a whole one back from a copy, or remove it with `sessions forget`."
            )
        snapshot: JsonObject = found
        noted = snapshot.get("app_data")
        named = noted.get(FORMATTED) if isinstance(noted, dict) else None
        require_known(f"Session {name!r} of {agent!r}", {"format": named})
        return snapshot

    def _conflict(self, name: str, agent: str, now: StoredSession | None) -> SessionConflictError:
        what = f"Session {name!r} of {agent!r} was not saved, since"
        if now is None:
            return SessionConflictError(f"{what} it was forgotten after this run had read it.")
        by = f"by {now.written_by}" if now.written_by else "by a program without a mark"
        return SessionConflictError(
            f"{what} it was written {by} at {now.written_at}, after this run had read it. That is what it holds now.",
            now.written_by,
            now.written_at,
        )


def _folder(name: str) -> str:
    check_session_name(name)
    return f"session/{name}/"


def _key(name: str, agent: str) -> str:
    check_session_name(name, agent)
    return f"{_folder(name)}scopes/agent/{agent}/snapshots/snapshot_latest.json"


def _app_data(snapshot: Any) -> JsonObject:
    """What programs keep beside a snapshot; empty if it is not an object."""
    app_data = snapshot.get("app_data") if isinstance(snapshot, dict) else None
    return app_data if isinstance(app_data, dict) else {}


def _written(snapshot: Any) -> dict[str, str]:
    """By whom and when, as `save` has noted it; empty if it is not from there."""
    noted = _app_data(snapshot).get(MARK)
    return {k: v for k, v in noted.items() if isinstance(v, str)} if isinstance(noted, dict) else {}


def _flaw(snapshot: Any) -> str | None:
    """Why this is not a snapshot of an agent that Strands would load; `None` if it is."""
    if not isinstance(snapshot, dict):
        return "it is not a JSON object"
    if (version := snapshot.get("schema_version")) != SCHEMA:
        return f"its schema version is {version!r}, not {SCHEMA!r}"
    if (scope := snapshot.get("scope")) != "agent":
        return f"its scope is {scope!r}, not 'agent'"
    if not isinstance(snapshot.get("created_at"), str):
        return "it does not say when it was created"
    data = snapshot.get("data")
    if not isinstance(data, dict):
        return "it holds no data"
    shapes = {"messages": list, "state": dict, "conversation_manager_state": dict, "interrupt_state": dict}
    wrong = [name for name, kind in shapes.items() if name in data and not isinstance(data[name], kind)]
    return f"its {wrong[0]} has another shape" if wrong else None
