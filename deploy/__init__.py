"""What installs, builds and demonstrates the gateway; nothing here is imported by the agent."""
