"""The paper's three claims (arXiv 2404.06356), measured: `learning` (1) and `fidelity` (2 and 3)."""
