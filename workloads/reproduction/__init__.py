"""Sets the paper's tables and figures beside what simulated machines come to."""
