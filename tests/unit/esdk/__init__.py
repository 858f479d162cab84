"""The eSDK through its sockets."""
