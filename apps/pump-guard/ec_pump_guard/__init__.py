"""Control APP: keeps a pressure under its limit by closing a valve, and says so upward at once."""
