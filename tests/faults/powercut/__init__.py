"""Power cuts: every acknowledged record is there, every file parses, whichever write the power failed at."""
