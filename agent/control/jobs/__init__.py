"""Jobs: how commands begin them, when they run, what carries them on, and how they end."""
