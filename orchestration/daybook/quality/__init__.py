"""Check tables against the rules of their contracts, and decide in gates whether data may pass."""
