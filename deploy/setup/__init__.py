"""Set-up and the lock files."""
