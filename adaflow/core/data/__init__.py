"""Images and labels: reading, preparing, loading, and the order in which training sees them."""
