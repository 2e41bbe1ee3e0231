"""What a net costs: parameters, multiply-adds, latency and memory."""
