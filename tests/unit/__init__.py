"""Pure tests, in seconds, with no part of the outside."""
