"""A full or failing disk: nothing crashes, what is refused says so, what was acknowledged stays readable, and it recovers."""
