"""The gateway agent: it makes a Linux box with a Docker engine an EC-IoT edge gateway."""

__version__ = "0.1.0"

BUILD_MS = 1_795_478_400_000
"""When this version was made, epoch ms (2026-11-24): no sane clock shows an earlier time."""
