"""Makes the worker that loads this one of a newer version: it writes, and knows, the next format."""

from abeyance import formats

formats.FORMAT += 1
