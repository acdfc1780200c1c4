"""The command line for people: start runs, see what waits, decide. `python starter.py --help` lists it all."""

from __future__ import annotations

from abeyance.cli import main

if __name__ == "__main__":
    main()
