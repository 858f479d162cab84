"""The lab cloud: receives from gateways over a real broker, keeps every batch exactly once, and sends commands."""
