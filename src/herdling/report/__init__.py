"""The report card of a run: what was made, from what, how well, at what cost."""
