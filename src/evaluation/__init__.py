"""How a score is measured, and how runs are compared."""
