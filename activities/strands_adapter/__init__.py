"""What Abeyance reads of Strands that Strands does not promise to keep.

Each module here says why there is no public way, and refuses what it cannot read: nothing runs on a guess.
"""
