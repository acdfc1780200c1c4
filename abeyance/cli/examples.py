"""Examples for the help of each command, and the class of command that shows them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from abeyance.cli._shared import starter

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "start": (
        ("start file-manager 'Delete a.txt' --id clean-up", "Start a run that you can name."),
        ("start smart-delete @prompt.txt --wait", "Read the prompt from a file; follow the run."),
        ("start file-manager 'Tidy up' --session books", "Let it remember this for the next run of the session."),
        ("start file-manager 'Tidy up' --limit turns=20", "Stop it after 20 model calls."),
    ),
    "show": (
        ("show clean-up", "What was asked, who answered, and what ran."),
        ("show clean-up --full", "The same, with every question whole."),
    ),
    "watch": (
        ("watch clean-up", "Follow it; Ctrl-C only stops watching."),
        ("watch clean-up --chat", "Talk to it."),
    ),
    "result": (("result clean-up --json", "With usage, approvals and decisions."),),
    "list": (("list --open", "Only runs that have not ended."),),
    "say": (
        ("say clean-up 'Now inspect april.txt'", "Give it more to do."),
        ("say clean-up - < prompt.txt", "Read the prompt from stdin."),
    ),
    "finish": (("finish clean-up", "Let it end when its prompts are done."),),
    "cancel": (("cancel clean-up", "Ask it to end."),),
    "pending": (
        ("pending", "Everything that is waiting."),
        ("pending --agent file-manager --older-than 2h", "Only this agent, and only what has waited for two hours."),
    ),
    "approve": (
        ("approve clean-up", "Show the question, then ask for your answer."),
        ("approve clean-up 2@6bd00fed", "Approve question 2 only if it is still what you saw."),
        ("approve clean-up 2@6bd00fed --comment 'checked'", "Say why."),
    ),
    "deny": (
        ("deny clean-up", "Show the question, then ask for your answer."),
        ("deny clean-up 2 --comment 'still in use'", "Deny question 2; the reason stays with the decision."),
    ),
    "respond": (
        ("respond clean-up", "Show the question and its options, then ask for your answer."),
        ("respond clean-up 1 t", "Answer question 1 with one of its options."),
        ("""respond clean-up 1 '{"amount": 200}'""", "Answer with JSON."),
    ),
    "retry": (("retry clean-up --comment 'disk is free again'", "Try again, once the cause is fixed."),),
    "abort": (("abort clean-up", "Give up: the run fails."),),
    "doctor": (("doctor clean-up", "Why nothing happens, and what to do."),),
    "agents": (("agents", "What ABEYANCE_AGENTS names here, and what running workers have."),),
    "setup": (("setup", "Once for each namespace."),),
    "codec-server": (("codec-server --origin https://ui.example.com", "For a UI at another address."),),
    "demo": (
        ("demo", "Answer the question yourself."),
        ("demo --answer y", "Decide beforehand."),
    ),
    "up": (("up", "In one terminal; the other commands in another."),),
    "sessions list": (("sessions list", "What is remembered."),),
    "sessions show": (("sessions show books", "What it remembers, and who granted trust."),),
    "sessions forget": (
        ("sessions forget books", "Forget all of it."),
        ("sessions forget books --key app-trust", "Revoke one grant of trust."),
    ),
}
"""By command: what to type after the program's name, and what that is for."""


class WithExamples(TyperCommand):
    """A command whose help ends with examples."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write them as they are typed, each on a line of its own."""
        program, command = starter(), ctx.command_path.removeprefix(ctx.find_root().command_path).strip()
        if examples := EXAMPLES.get(command):
            with formatter.section("Examples"):
                for words, purpose in examples:
                    formatter.write(f"{'':{formatter.current_indent}}{program} {words}\n")
                    formatter.write(f"{'':{formatter.current_indent}}    {purpose}\n")
        super().format_epilog(ctx, formatter)
