"""Admission: its rules one by one, and the proof that what it lets through is safe."""
