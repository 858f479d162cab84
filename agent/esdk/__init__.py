"""The gateway's resources for containers and APPs: one Unix socket per instance, one module per category."""
