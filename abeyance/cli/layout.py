"""How `--help` shows the commands: by what they are for, each with its first sentence whole."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

SECTIONS = {
    "Runs": ("start", "show", "watch", "result", "list", "say", "finish", "cancel"),
    "What waits for people": ("pending", "approve", "deny", "respond", "retry", "abort"),
    "Sessions": ("sessions",),
    "Operations": ("doctor", "agents", "setup", "codec-server"),
    "Here, without a server of your own": ("demo", "up"),
}
LONGEST_HELP = 300


class Sections(TyperGroup):
    """The commands in sections."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, section by section; one that no section names comes last."""
        left = dict.fromkeys(self.list_commands(ctx))
        sections = {title: [name for name in names if name in left] for title, names in SECTIONS.items()}
        named = {name for names in sections.values() for name in names}
        sections["Others"] = [name for name in left if name not in named]
        widest = max(len(name) for name in left)
        for title, names in sections.items():
            rows = list[tuple[str, str]]()
            for name in names:
                command = self.get_command(ctx, name)
                assert command
                rows.append((name.ljust(widest), command.get_short_help_str(LONGEST_HELP)))
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
