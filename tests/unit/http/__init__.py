"""The HTTP server and client on Unix sockets."""
