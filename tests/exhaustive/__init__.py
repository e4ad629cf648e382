"""Long runs: every input of a small world, and surveys of the peers."""
