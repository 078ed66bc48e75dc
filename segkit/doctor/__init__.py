"""Says whether this machine, container or job can train and infer, and what to change where it cannot."""
