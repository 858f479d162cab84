"""The control room: commands come in, desired state is journaled, containers follow, and the cloud is told."""
