"""What an execution knows of having been reset.

`temporal workflow reset` makes a new execution that begins with a part of another's history, and sends it the signals
that came after that part once more, with new times. The SDK gives a workflow a new random seed right where the old part
ends, and nothing else of it reaches the workflow; the signals of that moment are handled before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from abeyance.contracts import Approval, Reset, TurnInput
    from workflows.desk import now
    from workflows.state import State


class Resets:
    """Notes in a run's state each time that it was reset, once that is over.

    Args:
        state: the run's.
    """

    def __init__(self, state: State):
        info = workflow.info()
        self._state, self._of = state, info.original_execution_run_id
        self.is_one = self._of != info.run_id
        """Whether this execution comes from a reset."""
        self._here = self._passed_over = 0
        self._length, self._started = info.get_current_history_length(), now()
        workflow.register_random_seed_callback(self._passed)

    def _passed(self, _: int) -> None:
        # No workflow time can be read here.
        self._here += 1
        self._state.resets.append(Reset("", self._of, self._state.ledger.next_order()))

    @property
    def undated(self) -> bool:
        """Whether the time of the latest is not noted yet."""
        return bool(self._state.resets) and not self._state.resets[-1].at

    def date(self, at: str) -> None:
        """Note the time of the latest."""
        self._state.resets[-1] = replace(self._state.resets[-1], at=at)
        if workflow.info().get_current_history_length() == self._length:
            # A reset to the very first task, which workers do not count: often nothing tells the workflow of it.
            self._passed_over += 1

    @property
    def all(self) -> list[Reset]:
        """Each time that the run was reset, so far as it went on since."""
        untold = self.is_one and not self._here
        return [*self._state.resets, *([Reset(self._started, self._of, 0)] if untold else [])]

    def told(self, turn: TurnInput, answered: Sequence[Approval]) -> TurnInput:
        """The turn with what its worker has to know of it.

        Args:
            turn: what is to be done.
            answered: the approvals whose answers it is given.
        """
        resets, responses = self.all, turn.responses
        if responses and resets:
            # Where the mark is still to come, the worker finds more resets than are counted here.
            since = {approval.id for approval in answered if approval.order > resets[-1].order}
            responses = [replace(response, stale=response.id not in since) for response in responses]
        return replace(
            turn,
            execution=workflow.info().run_id,
            reset_of=resets[-1].of if resets else None,
            resets=self._here - self._passed_over if self.is_one else None,
            responses=responses,
        )
