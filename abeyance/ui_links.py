"""Links from a run to its own pages in the Temporal UI.

Only an absolute link works there: the UI shows what a run says of itself in a frame, opens absolute links in a tab of
their own, and anything else inside that frame. A run cannot know where the UI is; its worker can.
"""

from __future__ import annotations

from urllib.parse import quote

from temporalio import workflow
from temporalio.worker import Interceptor, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

from abeyance.markdown import encoded_size

ADDRESS = "abeyance_ui"
LONGEST = 600
"""Of a link, in characters once it is percent-encoded: the UI has room for some 8,000 of all that a run says."""


class UiAddress(Interceptor):
    """Tells a worker's runs where the Temporal UI is.

    Args:
        address: as a browser reaches it, without a slash at its end; empty where that is not known.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - as the SDK names it
    ) -> type[WorkflowInboundInterceptor] | None:
        """No interceptor: only the address."""
        input.unsafe_extern_functions[ADDRESS] = lambda: self._address
        return None


def queries_page() -> str | None:
    """Where a browser finds the queries of the current run; `None` if that is not known, or too long."""
    told = workflow.extern_functions().get(ADDRESS)
    if not told or not (address := told()):
        return None
    info = workflow.info()
    parts = "namespaces", info.namespace, "workflows", info.workflow_id, info.run_id, "query"
    link = "/".join([address, *(quote(part, safe="") for part in parts)])
    return link if encoded_size(link) <= LONGEST else None
