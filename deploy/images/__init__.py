"""Base images and the libraries that go into APP images."""
