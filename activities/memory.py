"""Activities that move whole conversations: into the next execution of a run, and from and to its session."""

from __future__ import annotations

import asyncio

from temporalio import activity

from abeyance.contracts import CARRY, Whole
from activities.conversations import NOTHING, Conversation, Conversations, packed


class Memory:
    """What one worker does with whole conversations.

    Args:
        conversations: those that are at hand.
        stored_elsewhere: whether what is too large for Temporal is kept beside it.
    """

    def __init__(self, conversations: Conversations, *, stored_elsewhere: bool):
        self._conversations, self._stored_elsewhere = conversations, stored_elsewhere

    @activity.defn(name=CARRY)
    async def carry(self, conversation: str) -> Whole:
        """Make one piece of a conversation, for a history that does not hold its parts.

        Args:
            conversation: its name.
        """
        found = await self._found(conversation)
        whole = NOTHING.then(found.whole())
        self._conversations.keep(whole)
        return Whole(whole.id, await asyncio.to_thread(packed, whole), self._stored_elsewhere)

    async def _found(self, conversation: str) -> Conversation:
        info = activity.info()
        assert info.workflow_id and info.workflow_run_id
        return await self._conversations.find(conversation, activity.client(), info.workflow_id, info.workflow_run_id)
