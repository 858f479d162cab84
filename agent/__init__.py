"""The gateway agent: it makes a Linux box with a Docker engine an EC-IoT edge gateway."""

__version__ = "0.1.0"
