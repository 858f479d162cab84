"""From what is wanted to what runs: plans carried out, versions on trial, crash loops, what came back by itself."""
