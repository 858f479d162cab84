"""A small HTTP/1.1 server over Unix sockets, shared by the APPs' sockets and the admin socket, and its client."""
