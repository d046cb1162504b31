"""Labels: which texts to label next, which labels are suspect, and how votes are resolved."""
