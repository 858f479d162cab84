"""gateway.yaml."""
