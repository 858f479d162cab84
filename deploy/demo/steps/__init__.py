"""One file a step. Each has `show(stage, account)`, which raises at the first claim that does not hold."""
