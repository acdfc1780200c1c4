"""Links from a run to its own pages in the Temporal UI.

Only an absolute link works there: the UI shows what a run says of itself in a frame, opens absolute links in a tab of
their own, and anything else inside that frame. A run cannot know where the UI is; its worker can.
"""

from __future__ import annotations

from urllib.parse import quote

from temporalio import workflow

from abeyance.markdown import encoded_size
from abeyance.worker_settings import worker_settings

LONGEST = 600
"""Of a link, in characters once it is percent-encoded: the UI has room for some 8,000 of all that a run says."""


def queries_page() -> str | None:
    """Where a browser finds the queries of the current run; `None` if that is not known, or too long."""
    ui = worker_settings().ui
    if not ui:
        return None
    info = workflow.info()
    parts = "namespaces", info.namespace, "workflows", info.workflow_id, info.run_id, "query"
    link = "/".join([ui, *(quote(part, safe="") for part in parts)])
    return link if encoded_size(link) <= LONGEST else None
