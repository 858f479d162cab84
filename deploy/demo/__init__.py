"""`make demo`: the gateway's main job on real parts, every claim checked with a tool that this project did not write."""
