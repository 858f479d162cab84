"""Looking after the machine: what instances use, lines that are crossed, a full disk, and the engine itself."""
