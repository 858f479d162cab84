"""The gateway for people at the box: the admin socket that the command line and the local page speak to."""
