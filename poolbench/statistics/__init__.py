"""What numbers over seeds say: estimates with their intervals, and comparisons. Needs numpy and scipy alone."""
