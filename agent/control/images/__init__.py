"""Images: the stock of them, the commands about them, and those that somebody took away."""
